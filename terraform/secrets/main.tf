# Made by AWS and stored by AWS; what passes through Terraform is ephemeral and in no state or plan file.
# A module of its own, because tests with a mocked provider must replace it: mocks know no ephemeral resources.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

variable "name" {
  description = "What the secrets' names begin with: <name>/postgres-password-… and so on."
  type        = string
}

locals {
  # Digits and a to f: the first two become part of a URL and of .env, and need no quoting there.
  hex_digits = { postgres-password = 48, redis-password = 48, admin-key = 64 }

  purposes = {
    postgres-password = "password of the PostgreSQL role leaderboard"
    redis-password    = "password of Redis"
    admin-key         = "the admin key of the API, ADMIN_KEY"
  }
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = local.hex_digits

  password_length            = each.value
  exclude_uppercase          = true
  exclude_punctuation        = true
  exclude_characters         = "ghijklmnopqrstuvwxyz"
  require_each_included_type = false
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV_AWS_149:the account's key aws/secretsmanager; a key of this configuration would go when it is destroyed, and the secrets' recovery with it
  #checkov:skip=CKV2_AWS_57:PostgreSQL and containers take a new password by hand (README, Rotate); a rotation that they do not follow stops the service
  for_each = local.hex_digits

  # A prefix: the name of a deleted secret is taken for as long as it can be recovered.
  name_prefix             = "${var.name}/${each.key}-"
  description             = local.purposes[each.key]
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each = aws_secretsmanager_secret.this

  secret_id        = each.value.id
  secret_string_wo = ephemeral.aws_secretsmanager_random_password.this[each.key].random_password
  # Never raised: a new value is put in by hand, where its server is told as well.
  secret_string_wo_version = 1
}

# As stored, not as generated: when an apply fails half way, the next one generates others.
ephemeral "aws_secretsmanager_secret_version" "postgres" {
  secret_id = aws_secretsmanager_secret_version.this["postgres-password"].secret_id
}

output "arns" {
  description = "ARN by purpose: postgres-password, redis-password, admin-key; only once the value is there."
  value       = { for purpose, version in aws_secretsmanager_secret_version.this : purpose => version.arn }
}

output "postgres_password" {
  description = "For RDS, which takes it write-only."
  value       = ephemeral.aws_secretsmanager_secret_version.postgres.secret_string
  ephemeral   = true
  sensitive   = true
}
