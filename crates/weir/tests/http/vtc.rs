//! Scripts of varnishtest: a client and a server that share no code with Weir's own fixtures.
//!
//! Each script gets `${weir}` (the address of a listener) and `${up}` (the port where its server listens, to which that
//! listener forwards).

use std::path::Path;
use std::process::Command;

use weir_test::{PATIENCE, Process, TempDir, free_port};

use crate::setup::Setup;

#[test]
fn varnishtest_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vtc");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "vtc"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 5, "{scripts:?}");
    for script in scripts {
        let up = free_port();
        let weir = Setup::port(up).run();
        let dir = TempDir::new("vtc");
        let mut command = Command::new("varnishtest");
        command.arg("-D").arg(format!("weir=127.0.0.1:{}", weir.port()));
        command.arg("-D").arg(format!("up=127.0.0.1:{up}"));
        command.args(["-t", "20"]).arg(&script).env("TMPDIR", dir.path()).current_dir(dir.path());
        let mut process = Process::spawn("varnishtest", command, dir.path());
        let status = process.wait_exit(PATIENCE * 2);
        assert!(status.success(), "{}: {status}\n{}\n{}", script.display(), process.stdout(), process.stderr());
    }
}
