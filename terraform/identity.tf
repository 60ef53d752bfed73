data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# Not AmazonSSMManagedInstanceCore: that one may read every parameter of the account.
data "aws_iam_policy_document" "instance" {
  #checkov:skip=CKV_AWS_356:the actions of Session Manager know no resources
  #checkov:skip=CKV_AWS_111:the same: they open channels, and change nothing
  statement {
    sid = "SessionManager"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "OwnSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(local.secret_arns)
  }

  dynamic "statement" {
    for_each = local.archive_arn[*]

    content {
      sid       = "Release"
      actions   = ["s3:GetObject"]
      resources = [statement.value]
    }
  }
}

data "aws_partition" "current" {}

locals {
  archive_arn = var.release.archive == null ? null : (
    startswith(var.release.archive, "s3://") ? "arn:${data.aws_partition.current.partition}:s3:::${trimprefix(var.release.archive, "s3://")}" : null
  )
}

resource "aws_iam_role" "instance" {
  name_prefix        = "${var.name}-"
  description        = "The instance of ${var.name}: Session Manager, its own secrets, its release"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "instance" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.instance.id
  policy      = data.aws_iam_policy_document.instance.json
}

resource "aws_iam_instance_profile" "instance" {
  name_prefix = "${var.name}-"
  role        = aws_iam_role.instance.name
}
