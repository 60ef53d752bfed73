# Docker's volumes, and so the ledger. Not part of the instance, which can be replaced at any time.
resource "aws_ebs_volume" "data" {
  #checkov:skip=CKV_AWS_189:the account's key aws/ebs; a key of this configuration would go when it is destroyed, and the snapshots with it
  availability_zone = aws_subnet.public.availability_zone
  encrypted         = true
  type              = "gp3"
  size              = var.data_volume.size_gib
  iops              = var.data_volume.iops
  throughput        = var.data_volume.throughput
  snapshot_id       = var.data_volume.snapshot_id
  # Also when `terraform destroy` means it: the ledger is then in a snapshot.
  final_snapshot = true

  tags = { Name = "${var.name}-data", Snapshots = "${var.name}-daily" }

  lifecycle {
    # What it was filled from matters once: only -replace makes it anew (README, Restore).
    ignore_changes = [snapshot_id]
  }
}

resource "aws_volume_attachment" "data" {
  volume_id   = aws_ebs_volume.data.id
  instance_id = aws_instance.this.id
  # NVMe instances name it otherwise; the instance looks for it by the volume's id.
  device_name = "/dev/sdf"
  # PostgreSQL writes its last checkpoint and the file system is unmounted before the volume goes.
  stop_instance_before_detaching = true
}

data "aws_iam_policy_document" "assume_snapshots" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["dlm.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "snapshots" {
  count = var.snapshots_kept > 0 ? 1 : 0

  name_prefix        = "${var.name}-snapshots-"
  assume_role_policy = data.aws_iam_policy_document.assume_snapshots.json
}

resource "aws_iam_role_policy_attachment" "snapshots" {
  count = var.snapshots_kept > 0 ? 1 : 0

  role       = aws_iam_role.snapshots[0].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole"
}

# Of one volume at one moment: PostgreSQL comes back from it as from a power cut, with every commit until then.
resource "aws_dlm_lifecycle_policy" "snapshots" {
  count = var.snapshots_kept > 0 ? 1 : 0

  description        = "${var.name} data volume every day"
  execution_role_arn = aws_iam_role.snapshots[0].arn

  policy_details {
    resource_types = ["VOLUME"]
    target_tags    = { Snapshots = "${var.name}-daily" }

    schedule {
      name      = "daily"
      copy_tags = true

      create_rule {
        interval      = 24
        interval_unit = "HOURS"
        times         = ["03:30"]
      }

      retain_rule {
        count = var.snapshots_kept
      }
    }
  }
}
