//! The access log from the outside: lines, rotation, failing disks, and no allocation.
#![allow(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::unwrap_used, reason = "helpers of tests, which the lint does not see as tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Clock};

use serde_json::{Value, json};
use weir_core::{EndCode, Instant, Origin, Phase, PhaseTimes, Reason, WallTime};
use weir_telemetry::access_log::{BATCH_BYTES, Format, Target};
use weir_telemetry::{AccessLog, AccessLogWriter, Protocol, Record};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_json_line_tells_everything() {
    let (times, file) = (times(), Folder::new("json"));
    let line: Value = serde_json::from_str(&lines(&file, Format::Json, &[record(&times)])[0]).unwrap();
    let expected = json!({
        "time": "2023-11-14T22:13:20.123456Z",
        "peer": "192.0.2.7:49152",
        "client": "2001:db8::1",
        "listener": "web",
        "method": "GET",
        "target": "/a\"b\\c?d=\u{FFFD}\n",
        "host": "example.org",
        "protocol": "HTTP/1.1",
        "status": 502,
        "bytes_in": 412,
        "bytes_out": 1380,
        "route": "all",
        "cluster": "web",
        "endpoint": "10.0.0.1:80",
        "attempts": 2,
        "end": "U:await",
        "reason": "upstream_reset",
        "request_id": "id-1",
        "user_agent": "agent/1.0",
        "referer": null,
        "total_us": 9000,
        "head_us": 1000,
        "route_us": null,
        "admit_us": null,
        "pick_us": null,
        "acquire_us": null,
        "connect_us": 3000,
        "send_us": null,
        "await_us": 5000,
        "relay_us": null,
    });
    assert_eq!(line, expected);
}

#[test]
fn every_key_is_in_the_reference() {
    let (times, file) = (times(), Folder::new("keys"));
    let line: Value = serde_json::from_str(&lines(&file, Format::Json, &[record(&times)])[0]).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/access-log.md");
    let page = std::fs::read_to_string(page).unwrap();
    let documented: std::collections::BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key).collect();
    let present: std::collections::BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(documented, present);
}

#[test]
fn a_combined_line_is_the_one_of_apache() {
    let (times, file) = (times(), Folder::new("combined"));
    let mut bare = record(&times);
    (bare.client, bare.peer, bare.method, bare.status, bare.user_agent) = (None, None, b"", 400, b"");
    let got = lines(&file, Format::Combined, &[record(&times), bare]);
    assert_eq!(
        got,
        [
            r#"2001:db8::1 - - [14/Nov/2023:22:13:20 +0000] "GET /a\x22b\x5Cc?d=\xFF\x0A HTTP/1.1" 502 1380 "-" "agent/1.0""#,
            r#"- - - [14/Nov/2023:22:13:20 +0000] "-" 400 1380 "-" "-""#,
        ]
    );
}

#[test]
fn a_renamed_file_is_opened_again() {
    let (times, folder) = (times(), Folder::new("rotate"));
    let (path, old) = (folder.path("access.log"), folder.path("access.log.1"));
    let log = AccessLog::start(Target::File(path.clone()), Format::Combined).unwrap();
    let mut writer = log.writer();
    put(&mut writer, &record(&times), 3);
    eventually(|| log.written_lines() == 3);
    std::fs::rename(&path, &old).unwrap();
    log.reopen();
    eventually(|| path.exists());
    put(&mut writer, &record(&times), 2);
    drop(writer);
    assert!(log.shutdown(DEADLINE));
    assert_eq!((count_lines(&old), count_lines(&path)), (3, 2));
    assert_eq!((log.written_lines(), log.dropped_lines()), (5, 0));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let (times, folder) = (times(), Folder::new("full"));
    let path = folder.path("access.log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let log = AccessLog::start(Target::File(path.clone()), Format::Combined).unwrap();
    let mut writer = log.writer();
    put(&mut writer, &record(&times), 4);
    eventually(|| log.dropped_lines() == 4);
    assert_eq!(log.written_lines(), 0);
    // Somebody makes room.
    std::fs::remove_file(&path).unwrap();
    log.reopen();
    eventually(|| path.exists());
    put(&mut writer, &record(&times), 1);
    drop(writer);
    assert!(log.shutdown(DEADLINE));
    assert_eq!(count_lines(&path), 1);
    assert_eq!((log.written_lines(), log.dropped_lines()), (1, 4));
}

#[test]
fn a_file_that_cannot_be_opened_again_keeps_the_old_one() {
    let (times, folder) = (times(), Folder::new("keep"));
    let (path, old) = (folder.path("access.log"), folder.path("access.log.1"));
    let log = AccessLog::start(Target::File(path.clone()), Format::Combined).unwrap();
    std::fs::rename(&path, &old).unwrap();
    std::fs::create_dir(&path).unwrap();
    log.reopen();
    let mut writer = log.writer();
    put(&mut writer, &record(&times), 1);
    drop(writer);
    assert!(log.shutdown(DEADLINE));
    assert_eq!((count_lines(&old), log.dropped_lines()), (1, 0));
}

#[test]
fn what_comes_after_the_end_is_counted_as_lost() {
    let (times, folder) = (times(), Folder::new("end"));
    let log = AccessLog::start(Target::File(folder.path("access.log")), Format::Json).unwrap();
    let mut writer = log.writer();
    assert!(log.shutdown(DEADLINE));
    put(&mut writer, &record(&times), 2);
    assert_eq!((log.written_lines(), log.dropped_lines()), (0, 2));
}

#[test]
fn lines_of_many_workers_stay_whole() {
    const WORKERS: usize = 4;
    const LINES: usize = 2_000;
    let folder = Folder::new("many");
    let path = folder.path("access.log");
    let log = AccessLog::start(Target::File(path.clone()), Format::Json).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let mut writer = log.writer();
            scope.spawn(move || {
                let times = times();
                for _ in 0..LINES {
                    writer.log(&record(&times));
                }
            });
        }
    });
    assert!(log.shutdown(DEADLINE));
    let text = std::fs::read_to_string(&path).unwrap();
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    assert_eq!(text.lines().count() as u64, log.written_lines());
    assert_eq!(log.written_lines() + log.dropped_lines(), (WORKERS * LINES) as u64);
}

#[test]
fn a_steady_stream_of_lines_allocates_nothing() {
    let (times, folder) = (times(), Folder::new("steady"));
    let log = AccessLog::start(Target::File(folder.path("access.log")), Format::Json).unwrap();
    let mut writer = log.writer();
    let mut lines = 0;
    let mut batch = |log: &AccessLog, writer: &mut AccessLogWriter| {
        let mut bytes = 0;
        while bytes < 2 * BATCH_BYTES {
            writer.log(&record(&times));
            lines += 1;
            bytes += 600;
            if !writer.pending() {
                // Handed over: the disk keeps up.
                eventually(|| log.written_lines() == lines);
            }
        }
    };
    batch(&log, &mut writer);
    batch(&log, &mut writer);
    let before = ALLOCATIONS.get();
    batch(&log, &mut writer);
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(log.dropped_lines(), 0);
}

// === fixtures ===

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn times() -> PhaseTimes {
    let mut times = PhaseTimes::starting(Instant::from_millis(100));
    times.stamp(Phase::Head, Instant::from_millis(101));
    times.stamp(Phase::Connect, Instant::from_millis(104));
    times.stamp(Phase::Await, Instant::from_millis(109));
    times
}

fn record(times: &PhaseTimes) -> Record<'_> {
    Record {
        start: WallTime::from_nanos(1_700_000_000_123_456_789),
        times,
        peer: "192.0.2.7:49152".parse().ok(),
        client: "2001:db8::1".parse().ok(),
        listener: "web",
        method: b"GET",
        target: b"/a\"b\\c?d=\xff\n",
        host: b"example.org",
        protocol: Protocol::Http11,
        status: 502,
        bytes_in: 412,
        bytes_out: 1_380,
        route: Some("all"),
        cluster: Some("web"),
        endpoint: Some("10.0.0.1:80"),
        attempts: 2,
        end: EndCode::by(Origin::Upstream, Phase::Await),
        reason: Some(Reason::UpstreamReset),
        request_id: b"id-1",
        user_agent: b"agent/1.0",
        referer: b"",
    }
}

fn put(writer: &mut AccessLogWriter, record: &Record<'_>, times: usize) {
    for _ in 0..times {
        writer.log(record);
    }
    assert!(writer.pending());
    writer.flush();
    assert!(!writer.pending());
}

fn lines(folder: &Folder, format: Format, records: &[Record<'_>]) -> Vec<String> {
    let path = folder.path("access.log");
    let log = AccessLog::start(Target::File(path.clone()), format).unwrap();
    let mut writer = log.writer();
    for record in records {
        writer.log(record);
    }
    drop(writer);
    assert!(log.shutdown(DEADLINE));
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

fn count_lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

/// Waits for a level, with a deadline.
fn eventually(level: impl Fn() -> bool) {
    let end = Clock::now() + DEADLINE;
    while !level() {
        assert!(Clock::now() < end, "did not happen within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A folder of this test's own, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-access-log-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
