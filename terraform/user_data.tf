# cloud-init writes these files and starts the first of them. None holds a secret: the instance asks for those itself.
locals {
  host = coalesce(var.domain, aws_eip.this.public_ip)

  # Sourced by the scripts. Every value was validated to be free of quotes, or is an id of AWS.
  deployment = {
    REGION             = var.region
    DATA_VOLUME_ID     = aws_ebs_volume.data.id
    RELEASE_REPOSITORY = var.release.repository
    RELEASE_REF        = var.release.ref
    RELEASE_ARCHIVE    = var.release.archive
    RELEASE_SHA256     = var.release.sha256
    POSTGRES_SECRET    = local.secret_arns["postgres-password"]
    REDIS_SECRET       = local.secret_arns["redis-password"]
    ADMIN_KEY_SECRET   = local.secret_arns["admin-key"]
    WEBHOOKS_SECRET    = var.webhooks ? local.secret_arns["webhook-secret"] : ""
    POSTGRES_CA_URL    = var.rds == null ? "" : "https://truststore.pki.rds.amazonaws.com/${var.region}/${var.region}-bundle.pem"
    # The plugin that Amazon Linux has not: the assets of its release on GitHub, and what they must be.
    COMPOSE_URL            = "https://github.com/docker/compose/releases/download/v5.6.1/docker-compose-linux-"
    COMPOSE_SHA256_X86_64  = "47737f4236e6d3ccea7291995203f8f018058783b4c3a9469119811a0b5db8c0"
    COMPOSE_SHA256_AARCH64 = "42cfa75f51ad0ccf290bad37899e0038a8c10a0069e85233ecc1d53e3ff1347d"
  }

  compose_files = concat(
    ["compose.yaml"],
    var.rds == null ? [] : ["terraform/compose/external-postgres.yaml"],
    var.elasticache == null ? [] : ["terraform/compose/external-redis.yaml"],
  )

  # What .env says beside the secrets; $ refers to them, and Compose looks them up.
  env = { for name, value in merge(var.settings, {
    COMPOSE_FILE = join(":", local.compose_files)
    API_PORT     = var.domain == null ? tostring(var.api_port) : null

    COMPOSE_PROFILES = var.domain == null ? null : "tls"
    TLS_DOMAIN       = var.domain
    TLS_EMAIL        = var.domain == null ? null : var.tls_email
    # Caddy is the only way in.
    GATEWAY_ADDRESS = var.domain == null ? null : "127.0.0.1"

    POSTGRES_DSN = var.rds == null ? null : join(" ", [
      "host=${aws_db_instance.this[0].address}", "port=5432", "user=leaderboard", "dbname=leaderboard",
      "sslmode=verify-full", "sslrootcert=/run/postgres-ca.pem",
    ])
    POSTGRES_CA_FILE = var.rds == null ? null : "/etc/leaderboard/postgres-ca.pem"

    REDIS_URL = var.elasticache == null ? null : (
      "rediss://:$${REDIS_PASSWORD}@${aws_elasticache_replication_group.this[0].primary_endpoint_address}:6379/0"
    )
  }) : name => value if value != null }

  scripts = ["leaderboard-install", "leaderboard-volume", "leaderboard-release", "leaderboard-env"]

  user_data = join("\n", ["#cloud-config", yamlencode({
    write_files = concat(
      [for script in local.scripts : {
        path        = "/usr/local/sbin/${script}"
        permissions = "0755"
        content     = file("${path.module}/instance/${script}")
      }],
      [
        {
          path        = "/etc/leaderboard/deployment.conf"
          permissions = "0644"
          content     = join("", [for name, value in local.deployment : "${name}='${value == null ? "" : value}'\n"])
        },
        {
          path        = "/etc/leaderboard/settings.env"
          permissions = "0644"
          content     = join("", [for name, value in local.env : "${name}=${value}\n"])
        },
        {
          path        = "/etc/systemd/system/leaderboard.service"
          permissions = "0644"
          content     = file("${path.module}/instance/leaderboard.service")
        },
        {
          path        = "/etc/systemd/system/docker.service.d/data-volume.conf"
          permissions = "0644"
          content     = file("${path.module}/instance/data-volume.conf")
        },
      ],
    )
    runcmd = [["/usr/local/sbin/leaderboard-install"]]
  })])
}
