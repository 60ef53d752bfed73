# What stands when nothing but the required variables is set. Nothing is asked of AWS.

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
  allowed_cidrs = ["203.0.113.0/24", "198.51.100.7/32"]
  release       = { repository = "https://git.example.com/studio/leaderboard.git", ref = "v1.2.3" }
  settings      = { READ_ACCESS = "keyed", LOG_LEVEL = "debug" }

  # Given, because mocked providers can't make ephemeral values; tests/deploy looks at those that are made.
  secret_arns = {
    postgres-password = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:postgres"
    redis-password    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis"
    admin-key         = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin"
  }
}

run "defaults" {
  assert {
    condition = (
      aws_instance.this.metadata_options[0].http_tokens == "required" &&
      aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1
    )
    error_message = "IMDSv2 only, and not for containers"
  }
  assert {
    condition     = aws_instance.this.root_block_device[0].encrypted && aws_ebs_volume.data.encrypted
    error_message = "both volumes are encrypted"
  }
  assert {
    condition     = aws_instance.this.user_data_replace_on_change && aws_volume_attachment.data.stop_instance_before_detaching
    error_message = "another release replaces the instance, after PostgreSQL has stopped"
  }
  assert {
    condition     = aws_ebs_volume.data.final_snapshot && aws_dlm_lifecycle_policy.snapshots[0].policy_details[0].schedule[0].retain_rule[0].count == 14
    error_message = "the ledger is in snapshots, daily and at the end"
  }
  assert {
    condition     = aws_dlm_lifecycle_policy.snapshots[0].policy_details[0].target_tags.Snapshots == aws_ebs_volume.data.tags.Snapshots
    error_message = "the policy means the data volume"
  }
  assert {
    condition     = aws_ebs_volume.data.availability_zone == aws_subnet.public.availability_zone
    error_message = "the data is where the instance is"
  }
  assert {
    condition     = length(aws_key_pair.this) == 0 && length(aws_cloudwatch_metric_alarm.status) == 0 && length(aws_route53_record.this) == 0
    error_message = "no key, alarm or record unless asked for"
  }
  assert {
    condition     = length(aws_db_instance.this) == 0 && length(aws_elasticache_replication_group.this) == 0 && length(aws_subnet.private) == 0
    error_message = "no managed servers unless asked for"
  }
  assert {
    condition     = length(local.user_data) < 16384
    error_message = "EC2 takes 16 KiB of user data"
  }

  assert {
    condition = toset([for rule in aws_vpc_security_group_ingress_rule.instance : "${rule.from_port}-${rule.to_port} ${rule.ip_protocol} ${rule.cidr_ipv4}"]) == toset([
      "8080-8080 tcp 203.0.113.0/24", "8080-8080 tcp 198.51.100.7/32",
    ])
    error_message = "the API's port for the allowed, and nothing else"
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443
    error_message = "HTTPS out"
  }
  assert {
    condition     = output.url == "http://198.51.100.1:8080"
    error_message = "plain HTTP without a domain"
  }

  assert {
    condition     = toset([for statement in data.aws_iam_policy_document.instance.statement : statement.sid]) == toset(["SessionManager", "OwnSecrets"])
    error_message = "Session Manager and its secrets"
  }
  assert {
    condition = alltrue([for statement in data.aws_iam_policy_document.instance.statement :
      statement.sid == "SessionManager" ? alltrue([for action in statement.actions : startswith(action, "ssmmessages:") || action == "ssm:UpdateInstanceInformation"]) :
      !contains(statement.resources, "*")
    ])
    error_message = "only Session Manager's actions are for all resources"
  }

  assert {
    condition = (
      toset([for name, value in local.deployment : name if strcontains(coalesce(value, "-"), ":secret:")]) ==
      toset(["POSTGRES_SECRET", "REDIS_SECRET", "ADMIN_KEY_SECRET"])
    )
    error_message = "where the secrets are, not what they are"
  }
  assert {
    condition     = local.deployment.WEBHOOKS_SECRET == "" && output.webhook_secret_command == null
    error_message = "no secret for final ranks unless asked for"
  }
  assert {
    condition = (
      local.env.READ_ACCESS == "keyed" && local.env.LOG_LEVEL == "debug" && local.env.API_PORT == "8080" &&
      local.env.COMPOSE_FILE == "compose.yaml" && length(local.env) == 4
    )
    error_message = "settings and the port, nothing of what is not there"
  }
  assert {
    condition     = local.deployment.RELEASE_REF == "v1.2.3" && local.deployment.RELEASE_ARCHIVE == null
    error_message = "the release that was asked for"
  }
  assert {
    condition     = yamldecode(local.user_data).runcmd[0][0] == "/usr/local/sbin/leaderboard-install"
    error_message = "cloud-init starts the installation"
  }
}
