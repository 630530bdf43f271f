//! What the kernel knows about this process, read from `/proc` at each scrape.

use std::fs;

use prometheus::{Gauge, IntCounter, IntGauge};

use super::{Register, go::Go};
use crate::open_files;

pub(super) struct Process {
    cpu_seconds: Gauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    start_seconds: Gauge,
    os_fds_used: IntGauge,
    os_fds_limit: IntGauge,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    go: Go,
}

impl Process {
    pub(super) fn new(register: &Register<'_>) -> Self {
        // The largest number is the Go client's word for no limit.
        let most = rustix::process::getrlimit(rustix::process::Resource::As).current.unwrap_or(u64::MAX);
        register
            .add(Gauge::new("process_virtual_memory_max_bytes", "Maximum amount of virtual memory in bytes."))
            .set(most as f64);
        Self {
            cpu_seconds: register
                .add(Gauge::new("process_cpu_seconds_total", "Total user and system CPU time in seconds.")),
            open_fds: register.gauge("process_open_fds", "Number of open file descriptors."),
            max_fds: register.gauge("process_max_fds", "Maximum number of open file descriptors."),
            resident_bytes: register.gauge("process_resident_memory_bytes", "Resident memory in bytes."),
            virtual_bytes: register.gauge("process_virtual_memory_bytes", "Virtual memory in bytes."),
            start_seconds: register.add(Gauge::new(
                "process_start_time_seconds",
                "Start time of the process since the unix epoch in seconds.",
            )),
            received_bytes: register
                .counter("process_network_receive_bytes_total", "Bytes received over the network."),
            sent_bytes: register
                .counter("process_network_transmit_bytes_total", "Bytes sent over the network."),
            go: Go::new(register),
            os_fds_used: register.gauge("os_fd_used", "The number of used file descriptors."),
            os_fds_limit: register.gauge("os_fd_limit", "The file descriptor limit."),
        }
    }

    /// Sets the gauges; one that cannot be read keeps its value.
    pub(super) fn read(&self) {
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(entries.count()).unwrap_or(i64::MAX);
            self.open_fds.set(open);
            self.os_fds_used.set(open);
        }
        let limit = i64::try_from(open_files::limit()).unwrap_or(i64::MAX);
        self.max_fds.set(limit);
        self.os_fds_limit.set(limit);
        if let Some((received, sent)) = octets() {
            self.received_bytes.inc_by(received.saturating_sub(self.received_bytes.get()));
            self.sent_bytes.inc_by(sent.saturating_sub(self.sent_bytes.get()));
        }
        if let Some(stat) = Stat::read() {
            self.cpu_seconds.set(stat.cpu_seconds);
            self.resident_bytes.set(stat.resident_bytes);
            self.virtual_bytes.set(stat.virtual_bytes);
            self.go.show(&stat);
            if let Some(boot) = boot_seconds() {
                self.start_seconds.set(boot + stat.start_seconds);
            }
        }
    }
}

/// Fields of `/proc/self/stat`, and of `/proc/self/statm`.
pub(super) struct Stat {
    cpu_seconds: f64,
    pub(super) threads: i64,
    /// Since boot.
    start_seconds: f64,
    pub(super) virtual_bytes: i64,
    resident_bytes: i64,
    /// Of the resident ones, those that no file has.
    pub(super) anonymous_bytes: i64,
}

/// The kernel counts times for user space in this many ticks a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The command's name may contain anything, so count from its closing parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let page_bytes = i64::try_from(rustix::param::page_size()).ok()?;
        let resident_bytes = fields.get(21)?.parse::<i64>().ok()? * page_bytes;
        let pages = fs::read_to_string("/proc/self/statm").ok()?;
        let shared_bytes = pages.split_whitespace().nth(2)?.parse::<i64>().ok()? * page_bytes;
        Some(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            threads: fields.get(17)?.parse().ok()?,
            start_seconds: ticks(19)? / TICKS_PER_SECOND,
            virtual_bytes: fields.get(20)?.parse().ok()?,
            resident_bytes,
            anonymous_bytes: resident_bytes - shared_bytes,
        })
    }
}

/// Bytes that this process's network has received and sent.
fn octets() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let value = |wanted: &str| {
        let at = names.split(' ').position(|name| name == wanted)?;
        values.split(' ').nth(at)?.parse().ok()
    };
    Some((value("InOctets")?, value("OutOctets")?))
}

fn boot_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_plausible_values() {
        let stat = Stat::read().unwrap();
        assert!(stat.threads >= 1 && (100_000..stat.resident_bytes).contains(&stat.anonymous_bytes));
        assert!(octets().is_some());
        assert!(stat.resident_bytes > 100_000 && stat.virtual_bytes > stat.resident_bytes);
        let started = boot_seconds().unwrap() + stat.start_seconds;
        let now = jiff::Timestamp::now().as_second() as f64;
        assert!((now - 3600.0..now + 2.0).contains(&started), "{started} against {now}");
    }
}
