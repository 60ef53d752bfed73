# Made by AWS and stored by AWS; what passes through Terraform is ephemeral, and in no state or plan file.
locals {
  # Digits and a to f: they become part of a URL and of .env, and need no quoting there. As base64, 64 of them are 48
  # bytes, of which half is random: a secret of Standard Webhooks has 24 to 64.
  hex_digits = merge(
    { postgres-password = 48, redis-password = 48, admin-key = 64 },
    var.webhooks ? { webhook-secret = 64 } : {},
  )
  prefixes = { webhook-secret = "whsec_" }

  made_here = var.secret_arns == null ? local.hex_digits : {}

  purposes = {
    postgres-password = "password of the PostgreSQL role leaderboard"
    redis-password    = "password of Redis"
    admin-key         = "the admin key of the API, ADMIN_KEY"
    webhook-secret    = "signs final ranks, WEBHOOK_SECRET; their receivers have it too"
  }

  # Of versions, not of secrets: whoever uses them comes after their values.
  secret_arns = var.secret_arns != null ? var.secret_arns : {
    for purpose, version in aws_secretsmanager_secret_version.this : purpose => version.arn
  }
}

# For what is ephemeral: tests mock the other provider, and mocks know nothing ephemeral.
provider "aws" {
  alias  = "ephemeral"
  region = var.region
}

ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = local.made_here
  provider = aws.ephemeral

  password_length            = each.value
  exclude_uppercase          = true
  exclude_punctuation        = true
  exclude_characters         = "ghijklmnopqrstuvwxyz"
  require_each_included_type = false
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV_AWS_149:the account's key aws/secretsmanager; a key of this configuration would go when it is destroyed, and the secrets' recovery with it
  #checkov:skip=CKV2_AWS_57:PostgreSQL and containers take a new password by hand (README, Rotate); a rotation that they do not follow stops the service
  for_each = local.made_here

  # A prefix: the name of a deleted secret is taken for as long as it can be recovered.
  name_prefix             = "${var.name}/${each.key}-"
  description             = local.purposes[each.key]
  recovery_window_in_days = 7
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each = aws_secretsmanager_secret.this

  secret_id        = each.value.id
  secret_string_wo = "${lookup(local.prefixes, each.key, "")}${ephemeral.aws_secretsmanager_random_password.this[each.key].random_password}"
  # Never raised: a new value is put in by hand, where its server is told as well.
  secret_string_wo_version = 1
}

# For RDS. As stored, not as generated: when an apply fails half way, the next one generates others.
ephemeral "aws_secretsmanager_secret_version" "postgres" {
  count    = var.rds == null ? 0 : 1
  provider = aws.ephemeral

  secret_id = local.secret_arns["postgres-password"]
}
