//! MQTT 3.1.1.

use std::fs;

use rumqttc::{
    AsyncClient, Event, LastWill, MqttOptions, Packet, QoS, SubscribeReasonCode, TlsConfiguration, Transport,
};

use super::{Answer, CAPACITY, LARGEST, Tell};
use crate::link::{Message, Options};

pub fn qos(level: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

/// Address and transport, which both versions share: a WebSocket's address is a URL.
pub fn transport(options: &Options) -> Result<(String, Transport), String> {
    let tls = || {
        let ca = fs::read(&options.ca).map_err(|error| error.to_string())?;
        Ok::<_, String>(TlsConfiguration::Simple { ca, alpn: None, client_auth: None })
    };
    let url = format!("{}://{}:{}/mqtt", options.scheme, options.host, options.port);
    Ok(match options.scheme.as_str() {
        "tls" => (options.host.clone(), Transport::tls_with_config(tls()?)),
        "ws" => (url, Transport::ws()),
        "wss" => (url, Transport::wss_with_config(tls()?)),
        _ => (options.host.clone(), Transport::tcp()),
    })
}

pub fn start(options: &Options, tell: Tell) -> Result<AsyncClient, String> {
    let (address, transport) = transport(options)?;
    let mut own = MqttOptions::new(&options.client_id, address, options.port);
    own.set_transport(transport)
        .set_credentials("anything", &options.token)
        .set_clean_session(options.starts_clean())
        .set_max_packet_size(LARGEST as usize, LARGEST as usize);
    if let Some((topic, payload)) = &options.will {
        own.set_last_will(LastWill::new(topic, payload.as_bytes(), QoS::AtLeastOnce, false));
    }
    let (client, mut events) = AsyncClient::new(own, CAPACITY);
    tokio::spawn(async move {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) => pass_on(packet, &tell),
                Ok(Event::Outgoing(_)) => {}
                Err(_) => break,
            }
        }
        let _ = tell.answers.send(Answer::Ended(Ok(None)));
    });
    Ok(client)
}

fn pass_on(packet: Packet, tell: &Tell) {
    let answer = match packet {
        Packet::Publish(publish) => {
            let (topic, payload) = (publish.topic, publish.payload.to_vec());
            let message = Message { topic, payload, qos: publish.qos as u8, retain: publish.retain };
            let _ = tell.inbox.send(message);
            return;
        }
        Packet::ConnAck(connack) => Answer::Connected(connack.session_present),
        Packet::SubAck(suback) => {
            Answer::Subscribed(suback.return_codes.iter().all(|code| *code != SubscribeReasonCode::Failure))
        }
        Packet::PubAck(_) | Packet::PubComp(_) => Answer::Acknowledged,
        _ => return,
    };
    let _ = tell.answers.send(answer);
}
