data "aws_ec2_instance_type" "this" {
  instance_type = var.instance_type
}

locals {
  architecture = contains(data.aws_ec2_instance_type.this.supported_architectures, "arm64") ? "arm64" : "x86_64"
}

data "aws_ssm_parameter" "ami" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${local.architecture}"
}

resource "aws_key_pair" "this" {
  count = var.ssh_public_key == null ? 0 : 1

  key_name_prefix = "${var.name}-"
  public_key      = var.ssh_public_key
}

# The address belongs to this and not to the instance: the next instance has it from its first second, and no download
# of its first boot breaks because the address changes under it.
resource "aws_network_interface" "this" {
  subnet_id       = aws_subnet.public.id
  security_groups = [aws_security_group.instance.id]
  description     = var.name

  tags = { Name = var.name }
}

resource "aws_eip" "this" {
  domain            = "vpc"
  network_interface = aws_network_interface.this.id

  tags = { Name = var.name }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_instance" "this" {
  #checkov:skip=CKV2_AWS_41:the profile is there; the check does not see it through name_prefix
  #checkov:skip=CKV_AWS_126:detailed monitoring is paid for, and the service's own metrics say more
  ami                  = data.aws_ssm_parameter.ami.insecure_value
  instance_type        = var.instance_type
  iam_instance_profile = aws_iam_instance_profile.instance.name
  key_name             = one(aws_key_pair.this[*].key_name)
  ebs_optimized        = true

  # Another release or setting is another instance: what runs is always what a fresh machine would make of this.
  user_data                   = local.user_data
  user_data_replace_on_change = true

  network_interface {
    device_index         = 0
    network_interface_id = aws_network_interface.this.id
  }

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # Containers are one hop further away: none of them gets at the instance's rights.
    http_put_response_hop_limit = 1
  }

  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = 20

    tags = merge({ Project = var.name, ManagedBy = "terraform", Name = "${var.name}-root" }, var.tags)
  }

  tags = { Name = var.name }

  lifecycle {
    # Amazon publishes an image every other week; a new one is taken when you replace the instance, not by surprise.
    ignore_changes = [ami]
  }

  # It fetches its release, its secrets and packages at once.
  depends_on = [aws_eip.this, aws_route.internet, aws_route_table_association.public, aws_iam_role_policy.instance]
}

resource "aws_cloudwatch_metric_alarm" "status" {
  count = var.alarm_topic_arn == null ? 0 : 1

  alarm_name          = "${var.name}-status"
  alarm_description   = "The instance of ${var.name} fails its status checks, or is gone"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed"
  dimensions          = { InstanceId = aws_instance.this.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = [var.alarm_topic_arn]
  ok_actions          = [var.alarm_topic_arn]
}

resource "aws_route53_record" "this" {
  #checkov:skip=CKV2_AWS_23:it points to the Elastic IP
  count = var.route53_zone_id == null ? 0 : 1

  zone_id = var.route53_zone_id
  name    = var.domain
  type    = "A"
  ttl     = 60
  records = [aws_eip.this.public_ip]
}
