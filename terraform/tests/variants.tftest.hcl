# What else can be asked for. PostgreSQL on RDS takes its password as an ephemeral value, which mocks know nothing of:
# tests/deploy looks at that.
mock_provider "aws" {
  source = "./tests/aws"
}

# Configured, but not asked for anything as long as the secrets are given.
provider "aws" {
  alias                       = "ephemeral"
  region                      = "eu-central-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}

variables {
  region        = "eu-central-1"
  allowed_cidrs = ["203.0.113.0/24"]
  release       = { archive = "s3://studio-releases/leaderboard/1.2.3.tar.gz", sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" }
  secret_arns = {
    postgres-password = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:postgres"
    redis-password    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis"
    admin-key         = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin"
  }
}

run "https_a_shell_and_an_alarm" {
  variables {
    domain          = "scores.example.com"
    tls_email       = "ops@example.com"
    route53_zone_id = "Z0123456789"
    ssh_cidrs       = ["192.0.2.0/24"]
    ssh_public_key  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxlYWRlcmJvYXJkbGVhZGVyYm9hcmRsZWFkZXJib2Fy ops"
    alarm_topic_arn = "arn:aws:sns:eu-central-1:123456789012:ops"
    snapshots_kept  = 0
  }

  assert {
    condition = toset([for rule in aws_vpc_security_group_ingress_rule.instance : "${rule.from_port}-${rule.to_port} ${rule.cidr_ipv4}"]) == toset([
      "80-80 0.0.0.0/0", "443-443 203.0.113.0/24", "22-22 192.0.2.0/24",
    ])
    error_message = "80 for certificates, 443 for the allowed, 22 for the given; no other port of the API"
  }
  assert {
    condition = (
      local.env.COMPOSE_PROFILES == "tls" && local.env.TLS_DOMAIN == "scores.example.com" && local.env.TLS_EMAIL == "ops@example.com" &&
      local.env.GATEWAY_ADDRESS == "127.0.0.1" && !contains(keys(local.env), "API_PORT")
    )
    error_message = "Caddy in front, and the gateway for the machine itself"
  }
  assert {
    condition     = aws_instance.this.key_name == aws_key_pair.this[0].key_name
    error_message = "the key is on the instance"
  }
  assert {
    condition     = aws_route53_record.this[0].name == "scores.example.com" && tolist(aws_route53_record.this[0].records)[0] == aws_eip.this.public_ip
    error_message = "the name points to the address"
  }
  assert {
    condition     = output.url == "https://scores.example.com" && length(aws_cloudwatch_metric_alarm.status) == 1 && length(aws_dlm_lifecycle_policy.snapshots) == 0
    error_message = "HTTPS, an alarm, no snapshots"
  }
  assert {
    condition = [for statement in data.aws_iam_policy_document.instance.statement : statement.resources if statement.sid == "Release"] == [
      toset(["arn:aws:s3:::studio-releases/leaderboard/1.2.3.tar.gz"])
    ]
    error_message = "one object of the bucket may be read"
  }
}

run "final_ranks_that_are_sent" {
  variables {
    webhooks = true
    settings = { WEBHOOK_TARGETS = "any" }
    secret_arns = {
      postgres-password = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:postgres"
      redis-password    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis"
      admin-key         = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin"
      webhook-secret    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook"
    }
  }

  assert {
    condition     = local.deployment.WEBHOOKS_SECRET == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook"
    error_message = "the instance knows where the secret is"
  }
  assert {
    condition = contains(one([for statement in data.aws_iam_policy_document.instance.statement : statement.resources if statement.sid == "OwnSecrets"]),
      "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook"
    )
    error_message = "and may read it"
  }
  assert {
    condition     = endswith(output.webhook_secret_command, "--secret-id arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook --query SecretString --output text")
    error_message = "whoever makes a receiver can look it up"
  }
  assert {
    condition     = length(local.user_data) < 16384
    error_message = "EC2 takes 16 KiB of user data"
  }
}

run "valkey_on_elasticache" {
  variables {
    elasticache = {}
  }

  assert {
    condition = (
      aws_elasticache_replication_group.this[0].engine == "valkey" && aws_elasticache_replication_group.this[0].transit_encryption_enabled &&
      tostring(aws_elasticache_replication_group.this[0].at_rest_encryption_enabled) == "true" &&
      aws_elasticache_replication_group.this[0].auth_token == "the-password-of-redis-123"
    )
    error_message = "Valkey, encrypted on the way and at rest, with the stored password"
  }
  assert {
    condition     = aws_elasticache_replication_group.this[0].automatic_failover_enabled && aws_elasticache_replication_group.this[0].num_cache_clusters == 2
    error_message = "a replica that takes over"
  }
  assert {
    condition     = one(aws_elasticache_parameter_group.this[0].parameter).value == "noeviction"
    error_message = "no player is evicted"
  }
  assert {
    condition = (
      local.env.COMPOSE_FILE == "compose.yaml:terraform/compose/external-redis.yaml" &&
      local.env.REDIS_URL == "rediss://:$${REDIS_PASSWORD}@redis.example.com:6379/0" && !strcontains(local.user_data, "the-password-of-redis")
    )
    error_message = "Compose without its own, by TLS, and no password in user_data"
  }
  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.managed) == ["redis"] && aws_vpc_security_group_ingress_rule.managed["redis"].cidr_ipv4 == null
    error_message = "only the instance gets there"
  }
  assert {
    condition     = length(aws_subnet.private) == 2 && aws_subnet.private[0].availability_zone != aws_subnet.private[1].availability_zone
    error_message = "two zones"
  }
}

run "keys_in_clear_are_told_of" {
  command = plan

  variables {
    allowed_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [check.keys_in_clear]
}
