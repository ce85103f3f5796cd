// A common paho-mqtt example for Rust, as its users have it.

use paho_mqtt::*;
use std::thread;

fn main() {
    // Specify MQTT broker hostname: <broker name>.<namespace>.cloudflarepubsub.com
    let uri = std::env::var("BROKER_URI").expect("URI must be set");

    // Your JWT token
    let jwt = std::env::var("BROKER_TOKEN").expect("JWT must be set");

    // Specify a topic name
    let topic = std::env::var("BROKER_TOPIC").expect("Topic must be set");

    // Configure the MQTT client
    let client_opts = CreateOptionsBuilder::new().mqtt_version(MQTT_VERSION_5).server_uri(uri).finalize();

    // Connect options
    let options =
        ConnectOptionsBuilder::new().ssl_options(SslOptions::default()).clean_start(true).password(jwt).finalize();

    // Create the MQTT client
    let cli = Client::new(client_opts).expect("Error creating client");

    // Connect to your broker
    cli.connect(options).expect("Error connecting to broker");

    // Message receiver
    let rx = cli.start_consuming();

    // Subscribe to a topic
    cli.subscribe(&topic, 0).expect("Error subscribing to topic");

    // Start waiting for messages
    let reader = thread::spawn(move || match rx.recv().expect("Error receiving message") {
        Some(message) => {
            println!("{:?}", message);
        }
        None => {}
    });

    // Publish a message!
    cli.publish(Message::new(topic, "My first MQTT message", 0)).expect("Error publishing");

    // Wait until we have received our message
    let _ = reader.join();

    // Good-Bye
    cli.disconnect(DisconnectOptions::default()).expect("Error disconnecting");
}
