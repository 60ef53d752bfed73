output "url" {
  description = "Where the API answers."
  value       = var.domain == null ? "http://${local.host}:${var.api_port}" : "https://${local.host}"
}

output "public_ip" {
  description = "The address, which stays when the instance is replaced; the domain's A record says it."
  value       = aws_eip.this.public_ip
}

output "instance_id" {
  description = "The instance that runs now."
  value       = aws_instance.this.id
}

output "data_volume_id" {
  description = "The volume with Docker's volumes."
  value       = aws_ebs_volume.data.id
}

output "session_command" {
  description = "Opens a shell on the instance, without SSH."
  value       = "aws ssm start-session --region ${var.region} --target ${aws_instance.this.id}"
}

output "log_command" {
  description = "What the first boot said, before a shell is there."
  value       = "aws ec2 get-console-output --region ${var.region} --instance-id ${aws_instance.this.id} --latest --output text"
}

output "secrets" {
  description = "Where the secrets are: ARNs in Secrets Manager, not the secrets."
  value       = local.secret_arns
}

output "admin_key_command" {
  description = "Prints the admin key."
  value       = "aws secretsmanager get-secret-value --region ${var.region} --secret-id ${local.secret_arns["admin-key"]} --query SecretString --output text"
}

output "webhook_secret_command" {
  description = "Prints what the receivers of final ranks check signatures with; null without webhooks."
  value       = var.webhooks ? "aws secretsmanager get-secret-value --region ${var.region} --secret-id ${local.secret_arns["webhook-secret"]} --query SecretString --output text" : null
}

output "postgres_address" {
  description = "The RDS instance; null where PostgreSQL is a container."
  value       = one(aws_db_instance.this[*].address)
}

output "redis_address" {
  description = "The ElastiCache primary; null where Valkey is a container."
  value       = one(aws_elasticache_replication_group.this[*].primary_endpoint_address)
}

check "keys_in_clear" {
  assert {
    condition     = var.domain != null || !contains(var.allowed_cidrs, local.anyone)
    error_message = "Without a domain there is no HTTPS: keys cross the Internet in clear, open to everyone. Set domain, or narrow allowed_cidrs."
  }
}
