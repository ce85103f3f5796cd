//! What `dev` says.

use std::process::ExitStatus;

use super::{DevInfo, DevNode, Layout};

/// The cluster is up: one line of JSON, or lines to paste.
pub fn ready(info: &DevInfo, layout: &Layout, json: bool) {
    if json {
        println!("{}", serde_json::to_string(info).unwrap_or_default());
        return;
    }
    for line in lines(info, layout) {
        println!("{line}");
    }
}

/// The nodes run, but something is still missing.
pub fn unsettled(why: &str) {
    eprintln!("rookery: the nodes run, but not all is in place yet: {why}. `rookery cluster status` tells when it is");
}

/// A node is none of the cluster any more.
pub fn removed(id: u64, layout: &Layout) {
    eprintln!(
        "rookery: node {id} has no place in the cluster any more; the others go on. Its log is {}",
        layout.log_file(id).display()
    );
}

/// A node ended by itself.
pub fn ended(id: u64, status: &ExitStatus, layout: &Layout) {
    if status.code() == Some(i32::from(crate::node::GONE)) {
        return removed(id, layout);
    }
    let program = program();
    eprintln!(
        "rookery: node {id} ended ({status}); the others go on. Start it again with\n  {program} serve --config {}",
        layout.config_file(id).display()
    );
}

fn program() -> String {
    std::env::current_exe().map_or_else(|_| "rookery".to_owned(), |path| path.display().to_string())
}

fn lines(info: &DevInfo, layout: &Layout) -> Vec<String> {
    let clients: Vec<&String> = info.credentials.keys().collect();
    let (Some(first), Some(last)) = (info.nodes.first(), info.nodes.last()) else { return Vec::new() };
    let (Some(sub), Some(publ)) = (clients.first(), clients.last()) else { return Vec::new() };
    let token = |client: &str| format!("\"$(cat {})\"", layout.credential_file(client).display());
    let (program, ca) = (program(), info.ca.display());
    let mosquitto = |program: &str, node: &DevNode, client: &str, rest: &str| {
        let (host, port) = node.mqtts.rsplit_once(':').unwrap_or((&node.mqtts, "8883"));
        format!(
            "  {program} -V 5 -h {host} -p {port} --cafile {ca} -i {client} -u anything -P {} -q 1 {rest}",
            token(client)
        )
    };
    let own = |verb: &str, node: &DevNode, client: &str, rest: &str| {
        format!(
            "  {program} {verb} --url mqtts://{} --ca {ca} --client-id {client} --token {} --qos 1 {rest}",
            node.mqtts,
            token(client)
        )
    };
    let (host, port) = first.mqtts.rsplit_once(':').unwrap_or((&first.mqtts, "8883"));
    let mut all = vec![
        format!("{} node(s) up. Broker {} in namespace {}.", info.nodes.len(), info.broker, info.namespace),
        String::new(),
    ];
    all.extend(info.nodes.iter().map(|n| {
        format!(
            "  node {}  mqtt {}  mqtts {}  ws {}  wss {}  grpc {}  http {}  pid {}",
            n.id, n.mqtt, n.mqtts, n.ws, n.wss, n.grpc, n.http, n.pid
        )
    }));
    all.extend([
        String::new(),
        format!("Subscribe on node {}, in a second terminal:", first.id),
        own("sub", first, sub, "'hello/#'"),
        mosquitto("mosquitto_sub", first, sub, "-t 'hello/#'"),
        String::new(),
        format!("Publish on node {}, in a third:", last.id),
        own("pub", last, publ, "hello/world 'hello from Rookery'"),
        mosquitto("mosquitto_pub", last, publ, "-t hello/world -m 'hello from mosquitto'"),
        String::new(),
        "MQTT.js (npm install mqtt), in a folder of yours:".to_owned(),
        format!(
            "  NODE_EXTRA_CA_CERTS={ca} BROKER_TOKEN={} node -e 'const c=require(\"mqtt\").connect(\"mqtts://{host}:{port}\",\
             {{protocolVersion:5,clientId:\"\",username:\"anything\",password:process.env.BROKER_TOKEN}});\
             c.on(\"connect\",()=>c.subscribe(\"hello/#\",()=>c.publish(\"hello/js\",\"hello from MQTT.js\")));\
             c.on(\"message\",(t,m)=>{{console.log(t,m.toString());c.end()}})'",
            token(publ)
        ),
        String::new(),
        format!("Administer it (in this folder, the command line finds it by itself): {program} broker list --namespace {}", info.namespace),
        "Ctrl-C stops all of it; started again, it goes on where it was.".to_owned(),
    ]);
    all
}
