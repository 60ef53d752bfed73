# Mistakes end before anything is made. Each run makes one mistake per variable.
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

run "one_mistake_each" {
  command = plan

  variables {
    region             = "Frankfurt"
    name               = "Leaderboard"
    allowed_cidrs      = []
    domain             = "https://scores.example.com"
    tls_email          = "nobody"
    api_port           = 22
    ssh_cidrs          = ["0.0.0.0/0"]
    vpc_cidr           = "10.0.0.0/8"
    availability_zones = ["eu-central-1a", "eu-central-1a"]
    release            = { repository = "https://git.example.com/studio/leaderboard.git", ref = "main" }
    settings           = { READ_ACCESS = "keyed\nADMIN_KEY=x" }
    instance_type      = "t2.medium"
    data_volume        = { size_gib = 1 }
    snapshots_kept     = -1
    rds                = { backup_days = 0 }
    elasticache        = { replicas = 9 }
    secret_arns        = { admin-key = "hunter2" }
  }

  expect_failures = [
    var.region, var.name, var.allowed_cidrs, var.domain, var.tls_email, var.api_port, var.ssh_cidrs, var.vpc_cidr,
    var.availability_zones, var.release, var.settings, var.instance_type, var.data_volume, var.snapshots_kept, var.rds,
    var.elasticache, var.secret_arns,
  ]
}

run "another_mistake_each" {
  command = plan

  variables {
    allowed_cidrs   = ["203.0.113.7"]
    api_port        = 8080.5
    route53_zone_id = "Z0123456789"
    ssh_public_key  = "ssh-ed25519 AAAA"
    release         = { repository = "https://user:password@git.example.com/leaderboard.git", ref = "v1" }
    settings        = { POSTGRES_DSN = "host=elsewhere" }
    instance_type   = "m7g"
    rds             = { storage_gib = 100, storage_max_gib = 50 }
  }

  expect_failures = [
    var.allowed_cidrs, var.api_port, var.route53_zone_id, var.ssh_public_key, var.release, var.settings, var.instance_type, var.rds,
  ]
}

run "a_short_commit" {
  command = plan

  variables {
    release   = { repository = "https://git.example.com/studio/leaderboard.git", ref = "45b2d69" }
    settings  = { SLACK_TOKEN = "x" }
    ssh_cidrs = ["192.0.2.0/24"]
  }

  expect_failures = [var.release, var.settings, var.ssh_public_key]
}

run "webhooks_without_their_secret" {
  command = plan

  variables {
    webhooks = true
  }

  expect_failures = [var.secret_arns]
}

run "a_secret_of_webhooks_that_nothing_reads" {
  command = plan

  variables {
    secret_arns = {
      postgres-password = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:postgres"
      redis-password    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:redis"
      admin-key         = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:admin"
      webhook-secret    = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:webhook"
    }
  }

  expect_failures = [var.secret_arns]
}

run "a_secret_of_webhooks_in_clear" {
  command = plan

  variables {
    settings = { WEBHOOK_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }
  }

  expect_failures = [var.settings]
}

run "an_archive_without_its_checksum" {
  command = plan

  variables {
    release = { archive = "https://example.com/leaderboard.tar.gz" }
  }

  expect_failures = [var.release]
}

run "an_archive_with_half_a_checksum" {
  command = plan

  variables {
    release = { archive = "https://example.com/leaderboard.tar.gz", sha256 = "2c26b46b" }
  }

  expect_failures = [var.release]
}
