//! The names under which a Go program tells of its runtime, for dashboards that show them. Where kvnode has the same thing
//! its own is shown: threads, memory in use, memory reserved. What only a garbage collector has is zero.

use prometheus::{Gauge, IntGauge};

use super::{Register, process::Stat};

pub(super) struct Go {
    threads: [IntGauge; 2],
    /// Memory that holds something.
    in_use: [IntGauge; 3],
    /// Memory asked for from the system.
    reserved: [IntGauge; 2],
}

const ZERO_GAUGES: &[&str] = &[
    "go_gc_gogc_percent",
    "go_memstats_buck_hash_sys_bytes",
    "go_memstats_gc_sys_bytes",
    "go_memstats_heap_idle_bytes",
    "go_memstats_heap_objects",
    "go_memstats_heap_released_bytes",
    "go_memstats_last_gc_time_seconds",
    "go_memstats_mcache_inuse_bytes",
    "go_memstats_mcache_sys_bytes",
    "go_memstats_mspan_inuse_bytes",
    "go_memstats_mspan_sys_bytes",
    "go_memstats_next_gc_bytes",
    "go_memstats_other_sys_bytes",
    "go_memstats_stack_inuse_bytes",
    "go_memstats_stack_sys_bytes",
];

const ZERO_COUNTERS: &[&str] =
    &["go_memstats_alloc_bytes_total", "go_memstats_frees_total", "go_memstats_mallocs_total"];

const NOT_KEPT: &str = "Kept by Go's runtime only; zero.";

/// A summary, which the library has no type for.
pub(super) const PAUSES: &str = "\
# HELP go_gc_duration_seconds Pauses of garbage collection, of which there are none.
# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile=\"0\"} 0
go_gc_duration_seconds{quantile=\"1\"} 0
go_gc_duration_seconds_sum 0
go_gc_duration_seconds_count 0
";

impl Go {
    pub(super) fn new(register: &Register<'_>) -> Self {
        for name in ZERO_GAUGES {
            register.gauge(name, NOT_KEPT);
        }
        for name in ZERO_COUNTERS {
            register.counter(name, NOT_KEPT);
        }
        // As `--version` says.
        register
            .gauges("go_info", "kvnode is no Go program.", &["version"])
            .with_label_values(&["none"])
            .set(1);
        // The largest number is Go's word for no limit.
        register.add(Gauge::new("go_gc_gomemlimit_bytes", "There is no limit.")).set(i64::MAX as f64);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        register
            .gauge("go_sched_gomaxprocs_threads", "Processors that this process may use.")
            .set(i64::try_from(processors).unwrap_or(i64::MAX));
        let in_use = "Bytes of memory that is not backed by a file.";
        let reserved = "Bytes of address space.";
        Self {
            threads: [register.gauge("go_goroutines", "Threads."), register.gauge("go_threads", "Threads.")],
            in_use: [
                "go_memstats_alloc_bytes",
                "go_memstats_heap_alloc_bytes",
                "go_memstats_heap_inuse_bytes",
            ]
            .map(|name| register.gauge(name, in_use)),
            reserved: ["go_memstats_heap_sys_bytes", "go_memstats_sys_bytes"]
                .map(|name| register.gauge(name, reserved)),
        }
    }

    /// Shows what the kernel says of the process.
    pub(super) fn show(&self, stat: &Stat) {
        self.threads.iter().for_each(|gauge| gauge.set(stat.threads));
        self.in_use.iter().for_each(|gauge| gauge.set(stat.anonymous_bytes));
        self.reserved.iter().for_each(|gauge| gauge.set(stat.virtual_bytes));
    }
}
