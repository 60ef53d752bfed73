# PostgreSQL in place of the container.

locals {
  # A final snapshot must be named as none before: by the network, and by what the instance was made from.
  rds_origin = substr(sha256("${aws_vpc.this.id} ${try(coalesce(var.rds.snapshot_identifier), "empty")}"), 0, 12)
}

resource "aws_db_subnet_group" "this" {
  count = var.rds == null ? 0 : 1

  name_prefix = "${var.name}-"
  subnet_ids  = aws_subnet.private[*].id
}

resource "aws_db_parameter_group" "this" {
  count = var.rds == null ? 0 : 1

  name_prefix = "${var.name}-"
  family      = "postgres18"
  description = "As the container is set up in compose.yaml, with its reasons"

  dynamic "parameter" {
    for_each = {
      synchronous_commit         = "on"
      "rds.force_ssl"            = "1"
      autovacuum_naptime         = "10"
      default_statistics_target  = "10"
      jit                        = "0"
      log_min_duration_statement = "1000"
      checkpoint_timeout         = "900"
      max_wal_size               = "2048"
      min_wal_size               = "1024"
    }

    content {
      name  = parameter.key
      value = parameter.value
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_157:rds.multi_az is true by default
  #checkov:skip=CKV_AWS_293:rds.deletion_protection is true by default
  #checkov:skip=CKV_AWS_118:enhanced monitoring needs a role of its own; Performance Insights is there
  #checkov:skip=CKV_AWS_161:the service has a password from Secrets Manager; tokens of IAM would have to be renewed every 15 minutes
  #checkov:skip=CKV_AWS_354:the account's key aws/rds, so that backups outlive this configuration
  #checkov:skip=CKV2_AWS_69:rds.force_ssl is 1 in the parameter group, and the service checks the certificate
  #checkov:skip=CKV2_AWS_30:statements over a second are logged; all of them would be the traffic once more
  count = var.rds == null ? 0 : 1

  identifier_prefix = "${var.name}-"
  engine            = "postgres"
  engine_version    = "18"
  instance_class    = var.rds.instance_class

  db_name  = var.rds.snapshot_identifier == null ? "leaderboard" : null
  username = var.rds.snapshot_identifier == null ? "leaderboard" : null
  # Write-only: it is in no state file. A restored instance gets it too, in place of the one it had.
  password_wo         = ephemeral.aws_secretsmanager_secret_version.postgres[0].secret_string
  password_wo_version = 1
  snapshot_identifier = var.rds.snapshot_identifier

  storage_type          = "gp3"
  storage_encrypted     = true
  allocated_storage     = var.rds.storage_gib
  max_allocated_storage = var.rds.storage_max_gib

  multi_az               = var.rds.multi_az
  db_subnet_group_name   = aws_db_subnet_group.this[0].name
  vpc_security_group_ids = [aws_security_group.managed["postgres"].id]
  parameter_group_name   = aws_db_parameter_group.this[0].name
  publicly_accessible    = false
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period   = var.rds.backup_days
  backup_window             = "03:00-03:30"
  maintenance_window        = "tue:04:00-tue:05:00"
  copy_tags_to_snapshot     = true
  deletion_protection       = var.rds.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${var.name}-final-${local.rds_origin}"

  auto_minor_version_upgrade      = true
  performance_insights_enabled    = true
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  lifecycle {
    # What it was made from matters once; leaving the setting away later must not make it anew.
    ignore_changes = [snapshot_identifier, db_name, username]
  }
}
