//! MQTT 5.0.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, LastWill, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions, StateError};

use super::{Answer, CAPACITY, LARGEST, Tell, three};
use crate::link::{EXPIRY, Message, Options};

pub fn qos(level: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

pub fn start(options: &Options, tell: Tell) -> Result<AsyncClient, String> {
    let (address, transport) = three::transport(options)?;
    let mut own = MqttOptions::new(&options.client_id, address, options.port);
    own.set_transport(transport)
        .set_credentials("anything", &options.token)
        .set_clean_start(options.starts_clean())
        .set_session_expiry_interval(options.keep.then_some(EXPIRY))
        .set_max_packet_size(Some(LARGEST));
    if let Some((topic, payload)) = &options.will {
        own.set_last_will(LastWill::new(topic, payload.as_bytes().to_vec(), QoS::AtLeastOnce, false, None));
    }
    let (client, mut events) = AsyncClient::new(own, CAPACITY);
    tokio::spawn(async move {
        let how = loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) => pass_on(packet, &tell),
                Ok(Event::Outgoing(_)) => {}
                Err(error) => break end(&error),
            }
        };
        let _ = tell.answers.send(Answer::Ended(how));
    });
    Ok(client)
}

fn end(error: &ConnectionError) -> Result<Option<u8>, String> {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => match reason_code {
            DisconnectReasonCode::SessionTakenOver => Ok(Some(0x8e)),
            other => Err(format!("DISCONNECT {other:?}")),
        },
        _ => Ok(None),
    }
}

fn pass_on(packet: Packet, tell: &Tell) {
    let answer = match packet {
        Packet::Publish(publish) => {
            let topic = String::from_utf8_lossy(&publish.topic).into_owned();
            let payload = publish.payload.to_vec();
            let message = Message { topic, payload, qos: publish.qos as u8, retain: publish.retain };
            let _ = tell.inbox.send(message);
            return;
        }
        Packet::ConnAck(connack) => Answer::Connected(connack.session_present),
        Packet::SubAck(suback) => {
            let granted = |code: &SubscribeReasonCode| matches!(code, SubscribeReasonCode::Success(_));
            Answer::Subscribed(suback.return_codes.iter().all(granted))
        }
        Packet::PubAck(_) | Packet::PubComp(_) => Answer::Acknowledged,
        _ => return,
    };
    let _ = tell.answers.send(answer);
}
