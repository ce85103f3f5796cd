//! What cannot start says why in one line, exits non-zero, and changes nothing.

use std::fs;
use std::net::TcpListener;

use tokio::process::Command;

use crate::harness::{PROGRAM, folder, output, run};

async fn complaint(arguments: &[&str]) -> String {
    let output = run(Command::new(PROGRAM).args(arguments)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} succeeded");
    assert_eq!(said.trim_end().lines().count(), 1, "one line: {said}");
    assert!(output.stdout.is_empty());
    said
}

#[tokio::test]
async fn t41_a_mistake_in_the_settings_is_one_line_that_names_it() {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("rookery.toml");
    let data = folder.join("data");
    fs::write(&file, format!("[node]\ndata_dir = {:?}\n\n[listeners]\nmqts = \"off\"\n", data.display().to_string()))
        .unwrap();
    for command in [&["serve", "--config"][..], &["config", "check"]] {
        let said = complaint(&[command, &[file.to_str().unwrap()]].concat()).await;
        assert!(said.contains("listeners.mqts") && said.contains("rookery.toml:5"), "{said}");
    }
    assert!(!data.exists(), "nothing is made");
    let said = complaint(&["serve", "--config", folder.join("none.toml").to_str().unwrap()]).await;
    assert!(said.contains("none.toml"), "{said}");
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn t41_a_port_in_use_ends_the_node_with_a_line_that_names_it() {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = format!(
        "[node]\ndata_dir = {:?}\n[cluster]\nlisten = \"{}\"\n[listeners]\nmqtt = \"{address}\"\nmqtts = \"off\"\n\
         ws = \"off\"\nwss = \"off\"\n[api]\ngrpc = \"{}\"\nhttp = \"off\"\n[log]\nlevel = \"off\"\n",
        folder.join("data").display().to_string(),
        free(),
        free(),
    );
    let file = folder.join("rookery.toml");
    fs::write(&file, settings).unwrap();
    let file = file.to_str().unwrap();
    output(Command::new(PROGRAM).args(["cluster", "init", "--config", file])).await;
    let said = complaint(&["serve", "--config", file]).await;
    assert!(said.contains("listeners.mqtt") && said.contains(&address), "{said}");
    drop(taken);
    fs::remove_dir_all(&folder).unwrap();
}
