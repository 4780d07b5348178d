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
