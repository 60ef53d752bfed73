# Valkey in place of the container.

# Its server takes the password as an ordinary argument, which Terraform keeps in the state: only in this variant.
data "aws_secretsmanager_secret_version" "redis" {
  count = var.elasticache == null ? 0 : 1

  secret_id = local.secret_arns["redis-password"]
}

resource "aws_elasticache_subnet_group" "this" {
  count = var.elasticache == null ? 0 : 1

  name       = var.name
  subnet_ids = aws_subnet.private[*].id
}

resource "aws_elasticache_parameter_group" "this" {
  count = var.elasticache == null ? 0 : 1

  name        = "${var.name}-valkey8"
  family      = "valkey8"
  description = "An evicted player would be missing from a board; a refused write waits in the outbox"

  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_elasticache_replication_group" "this" {
  #checkov:skip=CKV_AWS_191:the account's key, as everywhere here
  #checkov:skip=CKV2_AWS_50:automatic failover is on wherever there is a replica, which there is by default
  count = var.elasticache == null ? 0 : 1

  replication_group_id = var.name
  description          = "Boards of ${var.name}; a projection, rebuilt from the ledger when lost"
  engine               = "valkey"
  engine_version       = "8.0"
  parameter_group_name = aws_elasticache_parameter_group.this[0].name
  node_type            = var.elasticache.node_type
  port                 = 6379

  num_cache_clusters         = var.elasticache.replicas + 1
  automatic_failover_enabled = var.elasticache.replicas > 0
  multi_az_enabled           = var.elasticache.replicas > 0

  subnet_group_name  = aws_elasticache_subnet_group.this[0].name
  security_group_ids = [aws_security_group.managed["redis"].id]

  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  auth_token                 = data.aws_secretsmanager_secret_version.redis[0].secret_string
  # The password before stays valid beside a new one, until the next.
  auth_token_update_strategy = "ROTATE"

  auto_minor_version_upgrade = true
  maintenance_window         = "tue:05:00-tue:06:00"
  # No snapshots: what they hold is in the ledger, newer.
  snapshot_retention_limit = 0
  apply_immediately        = true
}
