//! PUBLISH (3.3), owned: for clients, wills and tests. A broker's way through is borrowed, see `publish_ref`.

use bytes::{Bytes, BytesMut};

use super::property::{NOT_ALLOWED, Property, each_property, users};
use super::topic::check_name;
use super::{
    DecodeError, EncodeError, Forwardable, PacketId, PublishHead, PublishRef, QoS, UserProperties, Version,
    encode_publish,
};

/// A PUBLISH that owns its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Sent before; never with QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retained, or to be retained.
    pub retain: bool,
    /// Empty only with a topic alias.
    pub topic: String,
    /// With QoS 1 and 2, and only then.
    pub packet_id: Option<PacketId>,
    /// From 1. Version 5 only.
    pub topic_alias: Option<u16>,
    /// From a server only, 1 to 268,435,455 each. Version 5 only.
    pub subscription_ids: Vec<u32>,
    /// Version 5 only.
    pub properties: MessageProperties,
    /// Any bytes, none included.
    pub payload: Bytes,
}

/// The properties that belong to a message, not to one hop of it: a server passes them on unchanged, but for the
/// expiry, which shrinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// What the payload is said to be; nobody checked.
    pub payload_format: Option<PayloadFormat>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// A MIME type, or whatever the two ends agree on.
    pub content_type: Option<String>,
    /// A topic name: not empty, no wildcards.
    pub response_topic: Option<String>,
    /// Any bytes.
    pub correlation_data: Option<Bytes>,
    /// In order.
    pub user_properties: UserProperties,
}

/// What a payload is said to be (3.3.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadFormat {
    /// Any bytes.
    Bytes = 0,
    /// UTF-8 text.
    Utf8 = 1,
}

impl From<PublishRef<'_>> for Publish {
    fn from(publish: PublishRef<'_>) -> Self {
        let p = &publish.properties;
        Self {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic.into(),
            packet_id: publish.packet_id,
            topic_alias: p.topic_alias,
            subscription_ids: p.subscription_ids().collect(),
            properties: MessageProperties {
                payload_format: p.payload_format,
                message_expiry: p.message_expiry,
                content_type: p.content_type.map(Into::into),
                response_topic: p.response_topic.map(Into::into),
                correlation_data: p.correlation_data.map(Bytes::copy_from_slice),
                user_properties: p.user_properties().map(|(name, value)| (name.into(), value.into())).collect(),
            },
            payload: Bytes::copy_from_slice(publish.payload),
        }
    }
}

impl Publish {
    pub(super) fn write(&self, version: Version, out: &mut BytesMut) -> Result<usize, EncodeError> {
        if !self.topic.is_empty() {
            check_name(&self.topic).map_err(EncodeError::Invalid)?;
        }
        let head = PublishHead {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: self.packet_id,
            topic_alias: self.topic_alias,
            subscription_ids: &self.subscription_ids,
            message_expiry: self.properties.message_expiry,
        };
        let forwardable = match version {
            Version::V311 => Bytes::new(),
            Version::V5 => self.properties.to_forwardable()?,
        };
        encode_publish(out, version, &head, Forwardable::stored(&forwardable), &self.payload)
    }
}

impl MessageProperties {
    /// All properties but the expiry, as they are on the wire: what `Forwardable::stored` takes.
    ///
    /// # Errors
    /// A field over 65,535 bytes, U+0000 in a string, or a response topic that is no topic name.
    pub fn to_forwardable(&self) -> Result<Bytes, EncodeError> {
        let mut out = BytesMut::new();
        let forwardable = self.all().filter(|property| !matches!(property, Property::MessageExpiry(_)));
        forwardable.into_iter().try_for_each(|property| property.write(&mut out))?;
        Ok(out.freeze())
    }

    /// Reads what `to_forwardable` or `Forwardable::copy_to` wrote.
    ///
    /// # Errors
    /// As when a PUBLISH with these properties is decoded.
    pub fn from_forwardable(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut properties = Self::default();
        each_property(bytes, |property, _| properties.take(property))?;
        Ok(properties)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Property<'_>> {
        let own = [
            self.payload_format.map(Property::PayloadFormat),
            self.message_expiry.map(Property::MessageExpiry),
            self.content_type.as_deref().map(Property::ContentType),
            self.response_topic.as_deref().map(Property::ResponseTopic),
            self.correlation_data.as_deref().map(Property::CorrelationData),
        ];
        own.into_iter().flatten().chain(users(&self.user_properties))
    }

    pub(super) fn take(&mut self, property: Property<'_>) -> Result<(), DecodeError> {
        match property {
            Property::PayloadFormat(v) => self.payload_format = Some(v),
            Property::MessageExpiry(v) => self.message_expiry = Some(v),
            Property::ContentType(v) => self.content_type = Some(v.into()),
            Property::ResponseTopic(v) => self.response_topic = Some(v.into()),
            Property::CorrelationData(v) => self.correlation_data = Some(Bytes::copy_from_slice(v)),
            Property::User(name, value) => self.user_properties.push((name.into(), value.into())),
            _ => return Err(NOT_ALLOWED),
        }
        Ok(())
    }
}
