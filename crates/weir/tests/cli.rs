//! The command line: what is printed where, and exit codes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a failed test")]

mod verbs;

use verbs::{Ran, weir, weir_in};
use weir_test::TempDir;

#[test]
fn the_version_is_one_line() {
    let ran = weir(&["--version"]);
    assert_eq!((ran.code, ran.out, ran.err), (Some(0), format!("weir {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[test]
fn wrong_usage_is_exit_code_2_with_a_suggestion() {
    for (args, expected) in [
        (&["chek", "x.toml"][..], "'check'"),
        (&["proxy", "--too", "127.0.0.1:1"], "'--to'"),
        (&["proxy"], "--to <ADDR,...>"),
        (&["run"], "<FILE>"),
        (&["demo", "--duration", "10"], "the unit is missing; write a number with its unit, such as 30s or 1m30s"),
        (&["demo", "--rate", "0"], "1..=100000"),
        (&["completions", "tcsh"], "zsh"),
        (&["pool", "sice"], "'size'"),
        (&["pool", "size", "--hold", "10ms"], "--rate <RATE>"),
        (&["pool", "size", "--rate", "10/d", "--hold", "10ms"], "write /s, /m or /h, such as 15000/m"),
        (&["pool", "size", "--rate", "1e3", "--hold", "10ms"], "write digits only"),
        (&["pool", "size", "--rate", "0", "--hold", "10ms"], "above zero"),
        (&["pool", "size", "--rate", "1", "--hold", "10"], "the unit is missing"),
        (&["pool", "size", "--rate", "1", "--hold", "1s", "--burst", "3"], "--within <TIME>"),
        (&["pool", "size", "--rate", "1", "--hold", "1s", "--tasks", "3"], "--connections-per-task <N>"),
        (
            &["pool", "size", "--rate", "1", "--hold", "1s", "--hold-p99", "2s", "--hold-scv", "1"],
            "cannot be used with",
        ),
    ] {
        let ran = weir(args);
        assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{args:?}");
        assert!(ran.err.contains(expected), "{args:?}: {}", ran.err);
    }
}

#[test]
fn check_says_where_and_what_helps() {
    let dir = TempDir::new("check");
    dir.write(
        "bad.toml",
        "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"wbe\"\n\n[cluster.web]\nendpoint = [\"127.0.0.1:3001\"]\n",
    );
    let Ran { code, out, err } = weir_in(dir.path(), &["check", "bad.toml"]);
    assert_eq!((code, &*out), (Some(1), ""));
    let expected = r#"error[W0401]: there is no cluster `wbe`
 --> bad.toml:3:11
  |
3 | cluster = "wbe"
  |           ^^^^^
  = help: did you mean "web"?

error[W0104]: unknown key `endpoint` in `cluster.web`
 --> bad.toml:6:1
  |
6 | endpoint = ["127.0.0.1:3001"]
  | ^^^^^^^^ not known here
  = help: did you mean `endpoints`?

error: bad.toml: 2 problems
"#;
    assert_eq!(err, expected, "\n{err}");
}

#[test]
fn check_finds_files_that_are_missing_and_what_this_machine_lacks() {
    let dir = TempDir::new("check");
    let base = "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n{page}\n[cluster.web]\nendpoints = [\"127.0.0.1:3001\"]\n";
    dir.write("page.toml", base.replace("{page}", "[listener.error_pages]\n503 = { file = \"down.html\" }\n"));
    let ran = weir_in(dir.path(), &["check", "page.toml"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("page.toml:5:16") && ran.err.contains("down.html"), "{}", ran.err);
    dir.write("down.html", "<h1>Down</h1>\n");
    let ran = weir_in(dir.path(), &["check", "page.toml"]);
    assert_eq!((ran.code, &*ran.out), (Some(0), "page.toml: ok\n"), "{}", ran.err);

    let here = base.replace("{page}", "max_connections = 10000000\n")
        + "[process]\nuser = \"nobody-of-this-name\"\n[access_log]\npath = \"no/such/folder/access.log\"\n";
    dir.write("here.toml", here.replacen("bind = ", "name = \"front\"\nbind = ", 1));
    let ran = weir_in(dir.path(), &["check", "here.toml"]);
    assert_eq!(ran.code, Some(1));
    for part in ["nobody-of-this-name", "no/such/folder; create it first", "LimitNOFILE", "here.toml: 3 problems"] {
        assert!(ran.err.contains(part), "{part}\n{}", ran.err);
    }
    let ran = weir_in(dir.path(), &["check", "--text-only", "here.toml"]);
    assert_eq!((ran.code, &*ran.out), (Some(0), "here.toml: ok\n"), "{}", ran.err);
}

#[test]
fn what_effective_prints_is_the_same_configuration() {
    let dir = TempDir::new("effective");
    for example in std::fs::read_dir(verbs::root().join("examples")).unwrap() {
        let path = example.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let first = weir(&["check", "--text-only", "--effective", &path.display().to_string()]);
        assert_eq!(first.code, Some(0), "{}: {}", path.display(), first.err);
        assert!(first.out.contains("shutdown_timeout"), "{}", first.out);
        dir.write("again.toml", &first.out);
        let second = weir_in(dir.path(), &["check", "--text-only", "--effective", "again.toml"]);
        assert_eq!((second.code, second.out), (Some(0), first.out), "{}: {}", path.display(), second.err);
    }
}

#[test]
fn a_file_that_is_not_there_is_said_so() {
    for verb in ["check", "run"] {
        let ran = weir(&[verb, "no-such-file.toml"]);
        assert_eq!((ran.code, &*ran.out), (Some(1), ""));
        assert!(ran.err.starts_with("error: no-such-file.toml: "), "{}", ran.err);
    }
}

#[test]
fn explain_knows_every_code_that_it_lists() {
    let list = weir(&["explain"]);
    assert_eq!(list.code, Some(0));
    let codes: Vec<&str> = list.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(codes.len() > 20, "{}", list.out);
    let one = weir(&["explain", codes[0]]);
    assert_eq!(one.code, Some(0));
    assert!(one.out.contains(codes[0]) && one.out.contains("[["), "{}", one.out);
    let none = weir(&["explain", "W9999"]);
    assert_eq!((none.code, &*none.out), (Some(1), ""));
    assert_eq!(none.err, "error: there is no diagnostic `W9999`; `weir explain` lists all of them\n");
}

#[test]
fn proxy_prints_the_configuration_that_it_stands_for() {
    let args =
        ["proxy", "--listen", "127.0.0.1:1234", "--to", "127.0.0.1:1,127.0.0.1:2", "--metrics", "off", "--print"];
    let ran = weir(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let dir = TempDir::new("proxy");
    dir.write("proxy.toml", &ran.out);
    let checked = weir_in(dir.path(), &["check", "proxy.toml"]);
    assert_eq!((checked.code, &*checked.out), (Some(0), "proxy.toml: ok\n"), "{}\n{}", ran.out, checked.err);
    let bad = weir(&["proxy", "--to", "127.0.0.1"]);
    assert_eq!(bad.code, Some(1));
    assert!(bad.err.contains("weir proxy:") && bad.err.ends_with("error: not started\n"), "{}", bad.err);
}

#[test]
fn proxy_says_where_it_listens_and_what_to_try() {
    use weir_test::{Client, Origin, Process, free_port};
    let (dir, origin, port, metrics) = (TempDir::new("proxy"), Origin::named("a"), free_port(), free_port());
    let mut command = std::process::Command::new(weir_test::weir_binary());
    let to = format!("127.0.0.1:{}", origin.port());
    command.args(["proxy", "--listen", &format!("0.0.0.0:{port}"), "--to", &to]);
    command.args(["--metrics", &format!("127.0.0.1:{metrics}")]);
    let mut proxy = Process::spawn("proxy", command, dir.path());
    proxy.wait_log("stop:", weir_test::PATIENCE);
    let expected = format!(
        "weir: 0.0.0.0:{port} -> {to}\n  try:   curl -i http://127.0.0.1:{port}/\n  \
         watch: curl http://127.0.0.1:{metrics}/clusters\n  stop:  Ctrl-C\n"
    );
    assert_eq!(proxy.stdout(), expected);
    assert_eq!(Client::local(port).get("/").unwrap().text(), "a");
    assert_eq!(Client::local(metrics).get("/ready").unwrap().status, 200);
}

#[test]
fn pool_size_answers_with_the_reason() {
    let ran = weir(&["pool", "size", "--rate", "1000", "--hold", "10ms"]);
    assert_eq!((ran.code, &*ran.err), (Some(0), ""));
    for part in [
        "18 connections\n",
        "      11  to keep up: 1,000 acquires/s x 10 ms = 10.0 busy on average (Little's law)\n",
        ">     18  for the wait: 99 of 100 callers wait at most 1 ms (Erlang C)\n",
        "\n>     18     56 %",
        "The hold time is taken as given.",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    // The same rate by the minute, and a wait of its own.
    let patient = weir(&["pool", "size", "--rate", "60000/m", "--hold", "10ms", "--wait-p99", "10ms"]);
    assert!(patient.out.starts_with("14 connections\n"), "{}", patient.out);
    // Each further demand has its line, and the largest decides.
    let more = ["--burst", "500", "--within", "100ms", "--tasks", "30", "--connections-per-task", "2"];
    let ran = weir(&[&["pool", "size", "--rate", "1000", "--hold", "10ms"][..], &more].concat());
    assert!(ran.out.starts_with("51 connections\n"), "{}", ran.out);
    assert!(ran.out.contains(">     51  for the burst: 500 at once") && ran.out.contains("      31  against deadlock"));
    // All lines fit a terminal.
    assert!(ran.out.lines().all(|line| line.chars().count() <= 100), "{}", ran.out);
}

#[test]
fn pool_size_says_what_cannot_be() {
    let base = ["pool", "size", "--rate", "1000", "--hold", "10ms"];
    for (more, expected) in [
        (&["--burst", "5", "--within", "9ms"][..], "one request alone takes 10 ms"),
        (&["--hold-p99", "10ms"], "--hold is the mean, --hold-p99 what 1 of 100 exceeds"),
        (&["--hold-p99", "1s"], "(--hold-scv)"),
        (&["--hold-scv", "1001"], "from 0 to 1000"),
        (&["--tasks", "4000000", "--connections-per-task", "9"], "check the units"),
    ] {
        let ran = weir(&[&base[..], more].concat());
        assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{more:?}");
        assert!(ran.err.starts_with("error: ") && ran.err.contains(expected), "{more:?}: {}", ran.err);
    }
    let zero = weir(&["pool", "size", "--rate", "1000", "--hold", "0s"]);
    assert_eq!((zero.code, &*zero.err), (Some(1), "error: the hold time must be above zero; write --hold 8ms\n"));
}

#[test]
fn pool_size_for_machines() {
    let base = ["pool", "size", "--json", "--rate", "1000", "--hold", "10ms", "--instances", "4", "--cores", "32"];
    let fits = weir(&[&base[..], &["--max-connections", "100"]].concat());
    assert_eq!((fits.code, &*fits.err), (Some(0), ""));
    let object: serde_json::Value = serde_json::from_str(&fits.out).unwrap();
    let at = |pointer: &str| object.pointer(pointer).unwrap_or_else(|| panic!("{pointer}: {object}"));
    assert_eq!((at("/size"), at("/total"), at("/decided_by")), (&18.into(), &72.into(), &"wait".into()));
    assert_eq!((at("/fit/fits"), at("/fit/capacity/each")), (&true.into(), &24.into()));
    assert_eq!((at("/server/total"), at("/warnings/0/name")), (&64.into(), &"beyond_server".into()));
    assert_eq!((at("/load/hold_seconds"), at("/target_wait_p99_seconds")), (&0.01.into(), &0.001.into()));
    let p99 = at("/forecast/wait_p99_seconds").as_f64().unwrap();
    assert!(p99 > 0.0 && p99 <= 0.001, "{p99}");
    assert_eq!(at("/around").as_array().unwrap().len(), 7);
    // A size that cannot keep up has no forecast.
    let tight = weir(&["pool", "size", "--json", "--rate", "1000", "--hold", "10ms", "--wait-p99", "1m"]);
    let tight: serde_json::Value = serde_json::from_str(&tight.out).unwrap();
    assert_eq!(tight.pointer("/around/0/forecast"), Some(&serde_json::Value::Null));
    // That pools do not fit is an exit code too, and the answer is printed all the same.
    let not = weir(&[&base[..], &["--max-connections", "70"]].concat());
    assert_eq!(not.code, Some(1));
    let object: serde_json::Value = serde_json::from_str(&not.out).unwrap();
    assert_eq!(object.pointer("/fit/fits"), Some(&false.into()));
}
