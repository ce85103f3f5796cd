//! Plays the transcripts with one client library: `driver CLIENT`. See ../../README.md for what it reads and prints.

mod link;
#[cfg(feature = "paho")]
mod paho;
mod relay;
mod rum;
mod transcripts;

use std::io::Read;
use std::sync::Arc;

use tokio::sync::Semaphore;

use link::Client;
use transcripts::{Stage, TRANSCRIPTS, outcome};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let name = std::env::args().nth(1).unwrap_or_default();
    let client: &'static dyn Client = match name.as_str() {
        "rumqttc" => &rum::Rumqttc,
        #[cfg(feature = "paho")]
        "paho-rust" => &paho::Paho,
        _ => panic!("{name:?} is no client of this program"),
    };
    println!("version {}", client.version());
    let mut lines = String::new();
    std::io::stdin().read_to_string(&mut lines).expect("the plays on standard input");
    let turn = Arc::new(Semaphore::new(client.at_once()));
    let plays = lines.lines().map(|line| tokio::spawn(play(client, line.to_owned(), turn.clone())));
    for play in plays.collect::<Vec<_>>() {
        play.await.expect("a play does not panic");
    }
}

async fn play(client: &'static dyn Client, line: String, turn: Arc<Semaphore>) {
    let _turn = turn.acquire().await.expect("never closed");
    let stage = Stage::read(client, &line);
    for name in TRANSCRIPTS {
        let (status, why) = outcome(&stage, name).await;
        println!("{status} {} {} {} {name} {why}", stage.scheme, stage.version, stage.nodes.len());
    }
}
