//! Repeats one hot-path operation, to be counted by callgrind: the difference between two numbers of rounds,
//! divided by the difference of the rounds, is the cost of one.
//!
//! ```text
//! cargo build --release -p weir-telemetry --example instructions
//! for n in 1000 11000; do
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/instructions request $n
//! done
//! ```
//! Operations: `request` (worker and endpoint counters with three histograms), `json`, `combined`.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use weir_core::{EndCode, Instant, Phase, PhaseTimes, WallTime};
use weir_telemetry::access_log::{AccessLog, Format, Target};
use weir_telemetry::{EndpointStats, Protocol, Record, WorkerStats};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(operation), Some(rounds)) = (args.next(), args.next()) else {
        return Err("usage: instructions request|json|combined ROUNDS".into());
    };
    let rounds: u64 = rounds.parse()?;
    let mut times = PhaseTimes::starting(Instant::from_millis(1));
    for (n, phase) in Phase::ALL.iter().enumerate() {
        times.stamp(*phase, Instant::from_nanos(1_000_000 + (n as u64 + 1) * 40_000));
    }
    let record = Record {
        start: WallTime::from_nanos(1_700_000_000_123_456_789),
        times: &times,
        peer: "192.0.2.7:49152".parse().ok(),
        client: "192.0.2.7".parse().ok(),
        listener: "web",
        method: b"GET",
        target: b"/catalogue/items?page=2&sort=price",
        host: b"shop.example.org",
        protocol: Protocol::Http11,
        status: 200,
        bytes_in: 412,
        bytes_out: 1_380,
        route: Some("catalogue"),
        cluster: Some("web"),
        endpoint: Some("10.0.0.12:8080"),
        attempts: 1,
        end: EndCode::COMPLETE,
        reason: None,
        request_id: b"01HZX3J5Q8W0V9T2R7N4M6K1A3",
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        referer: b"https://shop.example.org/",
    };
    match operation.as_str() {
        "request" => {
            let (worker, endpoint) = (WorkerStats::new(), EndpointStats::new(1));
            for _ in 0..rounds {
                let record = black_box(&record);
                worker.record(&record.ended());
                endpoint.shard(0).responded(record.status, record.times);
                black_box(&worker);
            }
        }
        "json" | "combined" => {
            let format = if operation == "json" { Format::Json } else { Format::Combined };
            let log = AccessLog::start(Target::File("/dev/null".into()), format)?;
            let mut writer = log.writer();
            for _ in 0..rounds {
                writer.log(black_box(&record));
            }
            drop(writer);
            log.shutdown(Duration::from_secs(10));
        }
        other => return Err(format!("no operation {other}").into()),
    }
    Ok(())
}
