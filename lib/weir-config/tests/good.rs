//! Right configurations: what they resolve to, and that the effective text gives the same again.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

mod common;

use std::time::Duration;

use proptest::prelude::*;
use weir_balance::{Algorithm, HashKey};
use weir_config::plan::{EndpointSpec, LogFormat, LogTarget, Plan, Protocol};
use weir_config::{DEFAULT_LISTEN, Source, effective, fuzz_one, load, proxy_plan, proxy_source};
use weir_route::{Action, PathMatch};

const MINIMAL: &str =
    "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\n[cluster.web]\nendpoints = [\"10.0.0.1:8080\"]\n";

fn http(plan: &Plan, at: usize) -> &weir_config::plan::Http {
    match &plan.listeners[at].protocol {
        Protocol::Http(http) => http,
        Protocol::Tcp(_) => panic!("listener {at} speaks TCP"),
    }
}

/// The effective configuration loads without a word and gives an equal plan, and itself.
fn check_effective(text: &str) {
    let outcome = common::load_text(text);
    let printed = effective(&outcome.draft.expect("loads"));
    let again = common::load_text(&printed);
    let said: Vec<_> = again.diagnostics.iter().map(|one| one.render(&common::source(&printed), false)).collect();
    assert_eq!(said.len(), outcome.diagnostics.len(), "{}\n{printed}", said.join("\n"));
    assert_eq!(format!("{:#?}", again.plan), format!("{:#?}", outcome.plan), "{printed}");
    assert_eq!(effective(&again.draft.unwrap()), printed);
}

#[test]
fn good_configurations_load_and_round_trip() {
    for path in common::cases("tests/good").into_iter().chain(common::cases("../../examples")) {
        let text = common::read(&path);
        common::plan(&text);
        check_effective(&text);
    }
}

#[test]
fn there_is_an_example_for_each_headline_use() {
    assert!(common::cases("../../examples").len() >= 8);
}

#[test]
fn defaults_are_those_of_the_crates_below() {
    let plan = common::plan(MINIMAL);
    let cluster = &plan.clusters[0];
    assert_eq!(cluster.balance, weir_balance::Params::default());
    assert_eq!(cluster.health, weir_health::Params::default());
    assert_eq!(cluster.outlier, weir_resilience::OutlierParams::default());
    assert_eq!(cluster.retry, weir_resilience::RetryParams::default());
    assert_eq!(cluster.pool, weir_pool_core::Params::default());
    assert_eq!(cluster.limit, weir_limit::Params::default());
    assert_eq!(cluster.timeouts, weir_resilience::Timeouts::default());
    assert!((cluster.panic_threshold - 0.0).abs() < f64::EPSILON);
    let http = http(&plan, 0);
    assert_eq!(http.limits, weir_http::Limits::default());
    assert_eq!(http.path_policy, weir_route::PathPolicy::default());
    assert_eq!(http.timeouts.head, Duration::from_secs(10));
    assert_eq!(plan.metrics.as_ref().unwrap().bind.to_string(), "127.0.0.1:9901");
    assert!(plan.access_log.is_none());

    let text = format!("{MINIMAL}[cluster.web.health.http]\n");
    assert_eq!(common::plan(&text).clusters[0].health.http, Some(weir_health::HttpProbe::default()));
    let short = format!("{MINIMAL}[cluster.web.health]\nhttp = \"/health\"\n");
    assert_eq!(common::plan(&short).clusters[0].health, common::plan(&text).clusters[0].health);
}

#[test]
fn every_key_reaches_the_plan() {
    let text =
        common::read(&common::cases("tests/good").into_iter().find(|path| path.ends_with("everything.toml")).unwrap());
    let plan = common::plan(&text);
    common::compare(&common::cases("tests/good")[0].with_file_name("everything.plan"), &format!("{plan:#?}\n"))
        .unwrap();

    let web = &plan.clusters[0];
    assert_eq!(web.balance.key, HashKey::Header("x-user".into()));
    assert_eq!(web.health.timeout, Duration::from_millis(1500));
    assert_eq!(web.limit.queue_timeout, Duration::from_millis(250));
    assert_eq!(plan.clusters[1].balance.algorithm, Algorithm::Maglev);
    assert!(plan.clusters[2].balance.ketama);
    assert!(matches!(&web.endpoints[1], EndpointSpec::Dns(dns) if &*dns.host == "app.internal" && dns.port == 8080));
    assert!(matches!(&web.endpoints[3], EndpointSpec::Static(one) if &*one.name == "b" && one.weight.get() == 3));
    let log = plan.access_log.as_ref().unwrap();
    assert_eq!(log.format, LogFormat::Combined);
    assert_eq!(log.target, LogTarget::File("/var/log/weir/access.log".into()));
    assert_eq!(plan.process.shutdown_timeout, Duration::ZERO);
    assert_eq!(plan.process.nameserver, Some("10.0.0.2:53".parse().unwrap()));
    assert!(matches!(&plan.listeners[1].protocol, Protocol::Tcp(tcp) if tcp.cluster.0 == 2));
}

/// Every key of every table is written in `everything.toml` (`path_prefix` and the like in other routes).
#[test]
fn everything_toml_has_every_key() {
    let text =
        common::read(&common::cases("tests/good").into_iter().find(|path| path.ends_with("everything.toml")).unwrap());
    let reference = weir_config::reference_markdown();
    let keys: Vec<_> = reference.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(keys.len() > 90, "{}", keys.len());
    for key in keys {
        let written = [format!("{key} = "), format!("[{key}"), format!(".{key}]")];
        assert!(written.iter().any(|form| text.contains(form)), "{key} is not in everything.toml");
    }
}

#[test]
fn the_most_specific_route_stands_first() {
    let text = format!(
        "{MINIMAL}
[[route]]
name = \"any-host-exact\"
path = \"/a\"
respond = {{}}
[[route]]
name = \"prefix\"
host = \"example.org\"
path_prefix = \"/a\"
respond = {{}}
[[route]]
name = \"longer-prefix\"
host = \"example.org\"
path_prefix = \"/a/b\"
respond = {{}}
[[route]]
name = \"suffix\"
host = \"*.example.org\"
respond = {{}}
[[route]]
name = \"exact-with-method\"
host = \"example.org\"
path = \"/a\"
method = \"GET\"
respond = {{}}
[[route]]
name = \"exact\"
host = \"example.org\"
path = \"/a\"
respond = {{}}
[[route]]
name = \"regex\"
host = \"example.org\"
path_regex = \"/a.*\"
method = \"PUT\"
respond = {{}}
"
    );
    let plan = common::plan(&text);
    let names: Vec<_> = http(&plan, 0).routes.iter().map(|route| &*route.name).collect();
    let order =
        ["exact-with-method", "exact", "longer-prefix", "prefix", "regex", "suffix", "any-host-exact", "default"];
    assert_eq!(names, order);
    assert!(matches!(http(&plan, 0).routes[7].action, Action::Forward { .. }));
    assert!(matches!(http(&plan, 0).routes[7].path, PathMatch::Any));
}

#[test]
fn a_route_holds_where_it_says() {
    let text =
        "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\n[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:2\"\n
[[route]]\nlistener = \"a\"\nrespond = {}\n[[route]]\npath = \"/x\"\nrespond = {}\n";
    let plan = common::plan(text);
    assert_eq!(http(&plan, 0).routes.len(), 2);
    assert_eq!(http(&plan, 1).routes.len(), 1);
}

#[test]
fn the_proxy_needs_no_file() {
    let plan = proxy_plan(DEFAULT_LISTEN, &["10.0.0.1:8080", "app.internal:80", "unix:/run/app.sock"]).unwrap();
    assert_eq!(plan.listeners[0].bind[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(plan.clusters[0].endpoints.len(), 3);
    let wrong = proxy_plan("localhost:80", &["10.0.0.1", "\"\n[x]\u{7f}"]).unwrap_err();
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
    let source = proxy_source("localhost:80", &["10.0.0.1"]);
    assert!(wrong[0].render(&source, false).contains("127.0.0.1:80"));
    assert!(proxy_plan::<&str>(DEFAULT_LISTEN, &[]).is_err());
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_no_obstacle() {
    common::plan(&format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n")));
}

// === any text ===

/// Texts of the cases, to be mangled: most mutations stay near what is understood.
fn seeds() -> Vec<String> {
    ["tests/good", "tests/bad", "../../examples"]
        .iter()
        .flat_map(|folder| common::cases(folder))
        .map(|path| common::read(&path))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        fuzz_one(text.as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_one(&bytes);
    }

    #[test]
    fn no_mangled_configuration_panics(
        seed in proptest::sample::select(seeds()),
        at in any::<proptest::sample::Index>(),
        len in 0_usize..12,
        with in prop_oneof!["[ -~\n]{0,6}", Just("\"\"".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()), Just("0".to_owned())],
    ) {
        let mut text = seed;
        let mut start = at.index(text.len() + 1);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = (start + len).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        text.replace_range(start..end, &with);
        fuzz_one(text.as_bytes());
    }

    /// Settings of every kind survive the way through the effective text.
    #[test]
    fn the_effective_text_round_trips(
        weight in 1_u16..,
        nanos in 1_000_000_u64..86_400_000_000_000,
        size in 1024_u64..=1_048_576,
        share in 0.0_f64..=1.0,
        factor in 1.001_f64..100.0,
        zone in "[a-zA-Z0-9_.:/-]{1,10}",
        tag in "\\PC{0,12}",
    ) {
        let tag = tag.replace(['"', '\\'], "");
        let text = format!(
            "[[listener]]\nbind = \"127.0.0.1:8080\"\ncluster = \"web\"\nlimits = {{ head_size = \"{size}B\", target_size = \"64B\" }}\n\
             [cluster.web]\nendpoints = [{{ address = \"10.0.0.1:80\", weight = {weight}, zone = \"{zone}\", tags = {{ \"{tag}\" = \"{tag}\" }} }}]\n\
             panic_threshold = {share:?}\nbalance = {{ algorithm = \"ring_hash\", bounded_load = {factor:?} }}\ntimeouts = {{ connect = \"{nanos}ns\" }}\n"
        );
        prop_assert!(load(&Source { name: String::new(), text: text.clone() }, &common::files).plan.is_some(), "{}", common::rendered(&text));
        check_effective(&text);
    }
}
