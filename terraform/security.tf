locals {
  anyone = "0.0.0.0/0"

  # HTTP beside HTTPS for everyone: the certificate authority comes from addresses that it does not tell, and clients
  # are sent on to HTTPS.
  doors = var.domain == null ? [for cidr in var.allowed_cidrs : { port = var.api_port, cidr = cidr, what = "the API" }] : concat(
    [{ port = 80, cidr = local.anyone, what = "certificates, and the way to HTTPS" }],
    [for cidr in var.allowed_cidrs : { port = 443, cidr = cidr, what = "the API" }],
  )
  shells = [for cidr in var.ssh_cidrs : { port = 22, cidr = cidr, what = "SSH" }]
}

resource "aws_security_group" "instance" {
  name_prefix = "${var.name}-instance-"
  description = "The API to those it is for, HTTPS to anywhere"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-instance" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "instance" {
  #checkov:skip=CKV_AWS_260:port 80 is open to everyone only with a domain, for certificates and the redirect to HTTPS
  #checkov:skip=CKV_AWS_24:port 22 is open only to ssh_cidrs, which refuse the whole Internet and are empty by default
  #checkov:skip=CKV_AWS_25:no rule here is about 3389
  for_each = { for door in concat(local.doors, local.shells) : "${door.port} ${door.cidr}" => door }

  security_group_id = aws_security_group.instance.id
  description       = each.value.what
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

# Images, packages, the release, Session Manager, secrets: all of it is HTTPS. Names and time are the VPC's own.
resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.instance.id
  description       = "images, packages, AWS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = local.anyone
}

locals {
  managed_ports = merge(
    var.rds == null ? {} : { postgres = 5432 },
    var.elasticache == null ? {} : { redis = 6379 },
  )
}

resource "aws_security_group" "managed" {
  for_each = local.managed_ports

  name_prefix = "${var.name}-${each.key}-"
  description = "Only from the instance"
  vpc_id      = aws_vpc.this.id

  tags = { Name = "${var.name}-${each.key}" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "managed" {
  for_each = local.managed_ports

  security_group_id            = aws_security_group.managed[each.key].id
  description                  = "the instance"
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.instance.id
}

resource "aws_vpc_security_group_egress_rule" "managed" {
  for_each = local.managed_ports

  security_group_id            = aws_security_group.instance.id
  description                  = each.key
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
  referenced_security_group_id = aws_security_group.managed[each.key].id
}
