//! Devices by what the kernel calls them. A path can lead to another device tomorrow; the number in configfs does not.

use anyhow::{Context, Result, bail};
use host::Host;

/// The directory of a block device in sysfs, None if the path leads to none.
pub fn class(host: &Host, path: &str) -> Result<Option<String>> {
    let Some(real) = host.real_path(path)? else {
        return Ok(None);
    };
    let Some(name) = real.strip_prefix("/dev/") else {
        return Ok(None);
    };
    // As in /dev/cciss/c0d0.
    let dir = format!("/sys/class/block/{}", name.replace('/', "!"));
    Ok(host.is_dir(&dir).then_some(dir))
}

/// The number of the block device with this directory, `MAJOR:MINOR`.
pub fn number(host: &Host, class: &str) -> Result<Option<String>> {
    Ok(host
        .read(&format!("{class}/dev"))?
        .map(|text| text.trim().to_owned()))
}

/// Does the path lead to a partition?
pub fn is_partition(host: &Host, path: &str) -> Result<bool> {
    let class = class(host, path)?;
    Ok(class.is_some_and(|class| matches!(host.mode(&format!("{class}/partition")), Ok(Some(_)))))
}

/// Has the kernel made the device read-only?
pub fn is_read_only(host: &Host, class: &str) -> Result<bool> {
    let text = host.read(&format!("{class}/ro"))?;
    Ok(text.is_some_and(|text| text.trim() == "1"))
}

/// How many commands a device has taken and not answered.
pub fn in_flight(host: &Host, class: &str) -> Result<u64> {
    let text = host.read(&format!("{class}/inflight"))?.unwrap_or_default();
    Ok(text
        .split_whitespace()
        .filter_map(|count| count.parse::<u64>().ok())
        .sum())
}

/// The size of a block device in bytes.
pub fn size(host: &Host, path: &str) -> Result<Option<u64>> {
    let Some(class) = class(host, path)? else {
        return Ok(None);
    };
    let sectors = host.read(&format!("{class}/size"))?;
    // Always in units of 512 bytes (Documentation/ABI/stable/sysfs-block).
    Ok(sectors.and_then(|text| Some(text.trim().parse::<u64>().ok()? * 512)))
}

/// Host, channel, target and LUN of a SCSI device, as its directory in sysfs is named.
pub fn scsi_address(host: &Host, path: &str) -> Result<[String; 4]> {
    let real = host
        .real_path(path)?
        .with_context(|| format!("{path} is not there"))?;
    let name = real.rsplit('/').next().unwrap_or_default();
    for class in ["block", "scsi_generic", "scsi_tape"] {
        let device = host.real_path(&format!("/sys/class/{class}/{name}/device"))?;
        let address = device
            .as_deref()
            .and_then(|device| device.rsplit('/').next());
        let parts: Vec<String> = address
            .unwrap_or_default()
            .split(':')
            .map(str::to_owned)
            .collect();
        if let Ok(parts) = <[String; 4]>::try_from(parts) {
            return Ok(parts);
        }
    }
    bail!("{path} is no SCSI device")
}
