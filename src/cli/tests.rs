use clap::{CommandFactory as _, Parser as _};

use super::*;

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_commands_of_the_examples_are_understood() {
    for line in [
        "namespace create my-namespace",
        "namespace list --output json",
        "broker create example-broker --namespace=my-namespace --description d --expiration 48h",
        "broker update example-broker --ns my-namespace --expiration -1",
        "broker issue example-broker --namespace=N --number=2 --expiration=48h",
        "broker issue example-broker --namespace=N --client-id a --client-id b --exp -1",
        "broker revoke B --namespace=N --jti=ONE --jti=TWO",
        "broker unrevoke B --namespace=N --jti=ONE",
        "broker show-revocations B --namespace=N",
        "broker public-keys B --namespace=N --endpoint http://localhost:1",
        "token create ci --expiration 30d",
        "cluster init --config r.toml --node-name a",
        "cluster join host:7946 --token t --node-data-dir d",
        "cluster members",
        "serve --config r.toml --listeners-mqtt 127.0.0.1:1883",
        "sub --url mqtts://h:8883 --ca f --client-id c --token t --qos 1 hello/#",
        "pub --url mqtts://h:8883 --ca f --client-id c --token t --qos 1 hello/world hi",
        "bench pairs --pubs 50 --qos 1 --inflight 20",
        "bench admin --clients 8 --endpoint http://a:1,http://b:1 --api-token-file f",
        "completions bash",
    ] {
        let words = std::iter::once("rookery").chain(line.split(' '));
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("{line}: {error}");
        }
    }
    for line in ["broker issue b", "broker revoke b --ns n", "broker create b --ns n --expiration 5x", "token"] {
        let words = std::iter::once("rookery").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}
