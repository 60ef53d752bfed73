variable "region" {
  description = "AWS region, such as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of a region, such as eu-central-1."
  }
}

variable "name" {
  description = "What every resource is called after; another name makes another, independent deployment."
  type        = string
  default     = "leaderboard"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must be 3 to 24 of a-z, 0-9 and single hyphens, and begin with a letter."
  }
}

variable "tags" {
  description = "Tags of every resource, beside Project and ManagedBy."
  type        = map(string)
  default     = {}
}

variable "allowed_cidrs" {
  description = "Who reaches the API: [\"0.0.0.0/0\"] for everyone, the game servers' addresses where only they write and read."
  type        = list(string)

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : can(cidrnetmask(cidr))])
    error_message = "allowed_cidrs must name at least one IPv4 block, such as 203.0.113.0/24."
  }
}

variable "domain" {
  description = "Name that the API is served under, by HTTPS on 443. Without one: plain HTTP on api_port, for tests and private networks."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null ? true : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,63}$", var.domain))
    error_message = "domain must be a full name in lower case, such as scores.example.com."
  }
}

variable "tls_email" {
  description = "Where the certificate authority writes to when a certificate is in danger; optional."
  type        = string
  default     = null

  validation {
    condition     = var.tls_email == null ? true : can(regex("^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$", var.tls_email))
    error_message = "tls_email must be an e-mail address."
  }
}

variable "route53_zone_id" {
  description = "Hosted zone in which the domain's address is written; without it you write that yourself, see the output `public_ip`."
  type        = string
  default     = null

  validation {
    condition     = var.route53_zone_id == null || var.domain != null
    error_message = "route53_zone_id needs a domain."
  }
}

variable "api_port" {
  description = "Port of the API where there is no domain."
  type        = number
  default     = 8080

  validation {
    condition     = var.api_port >= 1 && var.api_port <= 65535 && floor(var.api_port) == var.api_port && var.api_port != 22
    error_message = "api_port must be a port, and not 22."
  }
}

variable "ssh_cidrs" {
  description = "Who reaches port 22; by default nobody, a shell comes by Session Manager."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.ssh_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")])
    error_message = "ssh_cidrs must be IPv4 blocks, and not the whole Internet."
  }
}

variable "ssh_public_key" {
  description = "The key that ssh_cidrs come with, one line as in id_ed25519.pub."
  type        = string
  default     = null

  validation {
    condition     = (length(var.ssh_cidrs) > 0) == (var.ssh_public_key != null)
    error_message = "ssh_cidrs and ssh_public_key belong together: give both or neither."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the network that is made, a /16 to /24."
  type        = string
  default     = "10.42.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 4, 3)) && try(tonumber(split("/", var.vpc_cidr)[1]) >= 16 && tonumber(split("/", var.vpc_cidr)[1]) <= 24, false)
    error_message = "vpc_cidr must be an IPv4 block between /16 and /24."
  }
}

variable "availability_zones" {
  description = "Two zones: the instance and its data are in the first. By default the region's first two."
  type        = list(string)
  default     = null

  validation {
    condition     = var.availability_zones == null ? true : length(distinct(var.availability_zones)) == 2
    error_message = "availability_zones must name two different zones."
  }
}

variable "alarm_topic_arn" {
  description = "SNS topic that hears when the instance fails its status checks; without it there is no alarm."
  type        = string
  default     = null
}
