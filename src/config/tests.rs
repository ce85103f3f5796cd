use std::ffi::OsString;
use std::path::Path;

use super::values::Values;
use super::*;

fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut values = Values::defaults();
    source::from_toml(&mut values, Path::new("r.toml"), toml).map_err(|e| e.to_string())?;
    let environment = environment.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
    source::from_environment(&mut values, environment).map_err(|e| e.to_string())?;
    Config::from_values(&values).map_err(|e| e.to_string())
}

#[test]
fn defaults_are_valid() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.listeners.mqtt, []);
    assert_eq!(config.listeners.mqtts, ["0.0.0.0:8883".parse().unwrap()]);
    assert!(config.node.workers >= 1);
    assert!(!config.node.name.is_empty());
    for field in FIELDS {
        assert_eq!(field.check(field.default), Ok(()), "{}", field.key);
        assert!(SECTIONS.iter().any(|s| s.name == field.section()), "{}", field.key);
        assert!(field.doc.ends_with('.'), "{}", field.key);
    }
}

#[test]
fn default_shards_are_those_of_the_bounds() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.cluster.shards, rookery_cluster::limits::DEFAULT_SHARDS);
}

#[test]
fn environment_overrides_the_file() {
    let file = "[node]\nname = \"a\"\nworkers = 3\n[listeners]\nmqtts = \"off\"\n";
    let config = load(file, &[("ROOKERY_NODE_NAME", "b"), ("ROOKERY_API_TOKEN", "x"), ("PATH", "/bin")]).unwrap();
    assert_eq!((config.node.name.as_str(), config.node.workers, config.listeners.mqtts), ("b", 3, vec![]));
}

#[test]
fn flags_override_everything() {
    use clap::{Args as _, FromArgMatches as _};
    let command = Flags::augment_args(clap::Command::new("t"));
    let flags =
        Flags::from_arg_matches(&command.get_matches_from(["t", "--listeners-mqtt", "127.0.0.1:1883"])).unwrap();
    let env = [(OsString::from("ROOKERY_LISTENERS_MQTT"), OsString::from("off"))];
    let config = Config::load(None, env, &flags).unwrap();
    assert_eq!(config.listeners.mqtt, ["127.0.0.1:1883".parse().unwrap()]);
}

#[test]
#[expect(clippy::type_complexity, reason = "a table of cases")]
fn refusals_are_one_line_that_names_the_key() {
    let cases: &[(&str, &[(&str, &str)], &str)] = &[
        (
            "[listeners]\n\nmqts = \"off\"",
            &[],
            "r.toml:3: unknown setting listeners.mqts; the nearest is listeners.mqtt",
        ),
        ("[lisners]\n", &[], "r.toml:1: unknown setting [lisners]; the nearest is [listeners]"),
        ("node = 1", &[], "r.toml:1: node is a section: write [node]"),
        (
            "[node]\nworkers = \"4\"",
            &[],
            "r.toml:2: node.workers: expected a number of threads from 0 to 1024, found a string",
        ),
        ("[node]\nworkers = 5000", &[], "r.toml:2: node.workers: \"5000\" is not a number of threads from 0 to 1024"),
        ("[log]\nformat = \"xml\"", &[], "r.toml:2: log.format: \"xml\" is not one of text, json"),
        ("[listeners]\ntls_key = \"k\"", &[], "r.toml:2: listeners.tls_key: needs listeners.tls_cert as well"),
        (
            "[listeners]\nwss = \"127.0.0.1:8883\"",
            &[],
            "r.toml:2: listeners.wss: port 8883 is taken by listeners.mqtts (0.0.0.0:8883)",
        ),
        (
            "[listeners]\nmqtts = [\"0.0.0.0:1\", \"[::]:1\"]",
            &[],
            "r.toml:2: listeners.mqtts: port 1 is taken by listeners.mqtts (0.0.0.0:1)",
        ),
        (
            "[listeners]\nproxy = [\"0.0.0.0:1\"]\nproxy_from = \"::1\"",
            &[],
            "r.toml:2: listeners.proxy: no listener has the address 0.0.0.0:1",
        ),
        ("[listeners]\nproxy = \"0.0.0.0:8883\"", &[], "r.toml:2: listeners.proxy: needs listeners.proxy_from as well"),
        (
            "[listeners]\nproxy_from = [\"10.0.0.0/40\"]",
            &[],
            "r.toml:2: listeners.proxy_from: \"10.0.0.0/40\" is not up to 32 networks such as 10.0.0.0/8 or \
             2001:db8::/32 (a list, or with commas)",
        ),
        (
            "[listeners]\nmqtts = [1]",
            &[],
            "r.toml:2: listeners.mqtts: expected up to 32 addresses such as 0.0.0.0:8883 or [::]:8883 (a list, or with \
             commas between them), or \"off\", found an array",
        ),
        (
            "",
            &[("ROOKERY_NODE_WORKRS", "4")],
            "environment variable ROOKERY_NODE_WORKRS: unknown setting node.workrs; the nearest is node.workers",
        ),
        (
            "[node]\ndomain = \"Example.com\"",
            &[],
            "r.toml:2: node.domain: \"Example.com\" is not a domain name in lower case",
        ),
    ];
    for (toml, environment, line) in cases {
        assert_eq!(load(toml, environment).unwrap_err(), *line);
    }
    assert!(load("[node\n", &[]).unwrap_err().starts_with("r.toml:1: "));
    assert!(load("[log]\nlevel = \"a=b=c\"", &[]).unwrap_err().starts_with("r.toml:2: log.level: "));
}

#[test]
fn the_reference_page_is_up_to_date() {
    let page = include_str!("../../docs/reference/config.md");
    assert!(page == reference(), "run: rookery config reference > docs/reference/config.md");
}

#[test]
fn a_wildcard_address_is_not_advertised() {
    let config = load("", &[]).unwrap();
    let address: std::net::SocketAddr = config.cluster.advertised(config.cluster.listen).parse().unwrap();
    assert!(!address.ip().is_unspecified());
    assert_eq!(address.port(), 7946);
}

#[test]
fn a_listener_may_have_several_addresses() {
    let file = "[listeners]\nmqtt = []\nmqtts = [\"0.0.0.0:8883\", \"[::1]:443\"]\nproxy = [\"[::1]:443\"]\n\
                proxy_from = [\"10.0.0.0/8\", \"::1\"]";
    let config = load(file, &[("ROOKERY_LISTENERS_WSS", "127.0.0.1:1,127.0.0.1:2")]).unwrap().listeners;
    let text = |all: &[std::net::SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&config.mqtts), ["0.0.0.0:8883", "[::1]:443"]);
    assert_eq!(text(&config.wss), ["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!((text(&config.proxy), config.mqtt), (vec!["[::1]:443".to_owned()], vec![]));
    assert_eq!(config.proxy_from.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8", "::1/128"]);
    let many = vec!["\"127.0.0.1:0\""; MAX_LISTED + 1].join(",");
    assert!(load(&format!("[listeners]\nws = [{many}]"), &[]).is_err());
}
