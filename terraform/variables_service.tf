variable "release" {
  description = <<-END
    Which release of this project runs, pinned, from one of two places:
    { repository = "https://…/leaderboard.git", ref = "<40 hex digits of a commit, or a tag>" }, readable without a password;
    { archive = "https://….tar.gz" or "s3://bucket/key.tar.gz", sha256 = "<64 hex digits>" }, as `git archive` makes it.
    The instance may read that one object of the bucket, nothing else of it.
  END
  type = object({
    repository = optional(string)
    ref        = optional(string)
    archive    = optional(string)
    sha256     = optional(string)
  })

  validation {
    condition = (
      (var.release.repository != null && var.release.ref != null && var.release.archive == null && var.release.sha256 == null) ||
      (var.release.repository == null && var.release.ref == null && var.release.archive != null && var.release.sha256 != null)
    )
    error_message = "release must be either { repository, ref } or { archive, sha256 }."
  }

  validation {
    condition     = var.release.repository == null ? true : can(regex("^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)+$", var.release.repository))
    error_message = "release.repository must be an https:// address without user or password."
  }

  validation {
    condition = var.release.ref == null ? true : (
      can(regex("^[A-Za-z0-9][A-Za-z0-9._/+-]*$", var.release.ref)) && !strcontains(var.release.ref, "..") &&
      !contains(["main", "master", "trunk", "develop", "HEAD", "latest"], var.release.ref)
    )
    error_message = "release.ref must be a commit of 40 hex digits or a tag; a branch is another release tomorrow."
  }

  validation {
    # A short commit would be taken for a tag, and not found long after `terraform apply` ended.
    condition     = var.release.ref == null ? true : !can(regex("^[0-9a-f]{7,39}$", var.release.ref))
    error_message = "release.ref must have all 40 hex digits of the commit."
  }

  validation {
    condition     = var.release.archive == null ? true : can(regex("^(https|s3)://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~+-]+)+\\.(tar\\.gz|tgz)$", var.release.archive))
    error_message = "release.archive must be https://….tar.gz or s3://bucket/key.tar.gz."
  }

  validation {
    condition     = var.release.sha256 == null ? true : can(regex("^[0-9a-f]{64}$", var.release.sha256))
    error_message = "release.sha256 must be 64 hex digits in lower case, as sha256sum prints them."
  }
}

variable "settings" {
  description = "Settings of the service (README, `Settings`), such as { READ_ACCESS = \"keyed\", LOG_LEVEL = \"info\" }; no secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "Names of settings are capitals, digits and underscores."
  }

  validation {
    condition = alltrue([for name in keys(var.settings) : !can(regex(
      "^(ADMIN_KEY|API_HOST|API_PORT|GATEWAY_ADDRESS|DATA_DIR|(POSTGRES|REDIS|PG|TLS|COMPOSE|WORKER_HEALTH)_?[A-Z_]*|.*(PASSWORD|SECRET|TOKEN).*)$", name
    ))])
    error_message = "This configuration sets addresses, servers and secrets itself; settings can't name them."
  }

  validation {
    condition     = alltrue([for value in values(var.settings) : can(regex("^[^'\"`$\\\\#\\n\\r]*$", value)) && trimspace(value) == value])
    error_message = "Values of settings are one line without quotes, $, #, backslashes and outer spaces."
  }
}

variable "webhooks" {
  description = <<-END
    Whether final ranks are sent to the URLs that seasons name (`rewards`). They are signed with one more secret in Secrets
    Manager, webhook-secret, which the receivers need too. The instance reaches
    receivers on port 443 alone.
  END
  type        = bool
  default     = false
}

variable "instance_type" {
  description = "EC2 type, x86 or ARM, with at least 4 GiB; the network volume is NVMe on every type since 2018 (m5, t3 and later)."
  type        = string
  default     = "m7g.large"

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type)) && !can(regex("^([cmr][34]|t[12]|[a-z0-9]+\\.(nano|micro|small)$)", var.instance_type))
    error_message = "instance_type must be a type with NVMe volumes and 4 GiB or more, such as m7g.large or m7i.large."
  }
}

variable "data_volume" {
  description = <<-END
    The volume of Docker's volumes: the ledger (unless it is on RDS), the boards, certificates. It outlives the instance.
    size_gib may grow, never shrink; snapshot_id fills a new volume from a snapshot.
  END
  type = object({
    size_gib    = optional(number, 50)
    iops        = optional(number, 3000)
    throughput  = optional(number, 125)
    snapshot_id = optional(string)
  })
  default = {}

  validation {
    condition     = var.data_volume.size_gib >= 10 && var.data_volume.size_gib <= 16384
    error_message = "data_volume.size_gib must be 10 to 16384."
  }
}

variable "snapshots_kept" {
  description = "Daily snapshots of the data volume that are kept; 0 makes none, and then backups are your task."
  type        = number
  default     = 14

  validation {
    condition     = var.snapshots_kept >= 0 && var.snapshots_kept <= 1000 && floor(var.snapshots_kept) == var.snapshots_kept
    error_message = "snapshots_kept must be a whole number, 0 to 1000."
  }
}

variable "rds" {
  description = "PostgreSQL 18 on RDS in place of the container; {} takes these defaults. snapshot_identifier makes it from a snapshot."
  type = object({
    instance_class      = optional(string, "db.m7g.large")
    storage_gib         = optional(number, 50)
    storage_max_gib     = optional(number, 500)
    multi_az            = optional(bool, true)
    backup_days         = optional(number, 14)
    deletion_protection = optional(bool, true)
    snapshot_identifier = optional(string)
  })
  default = null

  validation {
    condition     = var.rds == null ? true : var.rds.backup_days >= 1 && var.rds.backup_days <= 35
    error_message = "rds.backup_days must be 1 to 35: a ledger without backups is none."
  }

  validation {
    condition     = var.rds == null ? true : var.rds.storage_gib >= 20 && var.rds.storage_max_gib > var.rds.storage_gib
    error_message = "rds.storage_gib must be at least 20, and storage_max_gib more than that."
  }
}

variable "elasticache" {
  description = "Valkey on ElastiCache in place of the container; {} takes these defaults. replicas > 0 fails over by itself."
  type = object({
    node_type = optional(string, "cache.m7g.large")
    replicas  = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.elasticache == null ? true : var.elasticache.replicas >= 0 && var.elasticache.replicas <= 5
    error_message = "elasticache.replicas must be 0 to 5."
  }
}

variable "secret_arns" {
  description = <<-END
    Secrets in Secrets Manager that are there already, by purpose: postgres-password, redis-password and admin-key, each
    of 16 or more letters, digits, - and _; with webhooks also webhook-secret, `whsec_` and 24 to 64 bytes in base64, or
    two of those with a blank between. For secrets that are made elsewhere, and for a ledger that comes with its password
    from another deployment. By default they are made.
  END
  type        = map(string)
  default     = null

  validation {
    condition = var.secret_arns == null ? true : (
      toset(keys(var.secret_arns)) == toset(concat(["postgres-password", "redis-password", "admin-key"], var.webhooks ? ["webhook-secret"] : [])) &&
      alltrue([for arn in values(var.secret_arns) : can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+$", arn))])
    )
    error_message = "secret_arns must be the ARNs of three secrets: postgres-password, redis-password and admin-key; with webhooks of a fourth, webhook-secret, and not without."
  }
}
