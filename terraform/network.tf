data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394:a zone that AWS adds moves nothing, the subnets ignore it
  state = "available"

  # No local zones, which have neither every instance type nor RDS.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones   = coalesce(var.availability_zones, slice(data.aws_availability_zones.available.names, 0, 2))
  managed = var.rds != null || var.elasticache != null
}

resource "aws_vpc" "this" {
  #checkov:skip=CKV2_AWS_11:flow logs cost more than this instance's traffic tells; turn them on where a rule asks for them
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true

  tags = { Name = var.name }
}

# Nothing uses it; without rules nothing can by mistake.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  vpc_id            = aws_vpc.this.id
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, 0)
  availability_zone = local.zones[0]

  tags = { Name = "${var.name}-public" }

  lifecycle {
    # A zone that AWS adds must not move the instance away from its data.
    ignore_changes = [availability_zone]
  }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  subnet_id      = aws_subnet.public.id
  route_table_id = aws_route_table.public.id
}

# RDS and ElastiCache want two zones. No route leads out of these: the main route table is left as AWS made it.
resource "aws_subnet" "private" {
  count = local.managed ? 2 : 0

  vpc_id            = aws_vpc.this.id
  cidr_block        = cidrsubnet(var.vpc_cidr, 4, count.index + 1)
  availability_zone = local.zones[count.index]

  tags = { Name = "${var.name}-private-${count.index + 1}" }

  lifecycle {
    ignore_changes = [availability_zone]
  }
}
