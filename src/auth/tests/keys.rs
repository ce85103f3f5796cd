use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

/// The public keys and key ids that the service's documentation shows.
const SAMPLES: [(&str, &str); 2] = [
    ("Phf82R8tG1FdY475-AgtlaWIwH1lLFlfWu5LrsKhyjw", "JDPuYJqHOvqzlakkNFQ9kfN7WsYs5uHndp_ziRdmOCU"),
    ("Bt4kQWcK_XhZP1ZxEflsoYbqaBm9rEDk_jNWPdhxwTI", "qk7Z4hbN738v-m2CKdVaKTav9pU32MAaQXB2tDaQ-_o"),
];

#[test]
fn a_key_id_is_the_thumbprint() {
    for (x, kid) in SAMPLES {
        let public: [u8; 32] = URL_SAFE_NO_PAD.decode(x).unwrap().try_into().unwrap();
        assert_eq!(thumbprint(&public), kid);
    }
    // RFC 8037, appendix A.3.
    let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    assert_eq!(thumbprint(&public.try_into().unwrap()), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_jwk_set_looks_like_the_documented_one() {
    let world = World::new();
    let broker = world.state.broker(A).unwrap();
    let json = serde_json::to_string(&jwk_set(broker)).unwrap();
    let shown = |n: usize| {
        let (kid, x) = (&broker.keys[n].kid, URL_SAFE_NO_PAD.encode(broker.keys[n].public));
        format!(r#"{{"use":"sig","kty":"OKP","kid":"{kid}","crv":"Ed25519","alg":"EdDSA","x":"{x}"}}"#)
    };
    assert_eq!(json, format!(r#"{{"keys":[{},{}]}}"#, shown(0), shown(1)));
    assert_eq!(serde_json::from_str::<JwkSet>(&json).unwrap(), jwk_set(broker));
}

#[test]
fn a_signature_verifies_under_the_public_key() {
    let world = World::new();
    let key = world.active_key(A);
    let public = world.state.broker(A).unwrap().active_key().unwrap().public;
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
    let signature = key.sign(b"1654703935[]");
    assert!(public.verify(b"1654703935[]", &signature).is_ok());
    assert!(public.verify(b"1654703936[]", &signature).is_err());
}

#[test]
fn a_sealed_key_opens_in_its_own_place_only() {
    let world = World::new();
    let keys = &world.state.broker(A).unwrap().keys;
    let mut moved = keys[0].clone();
    moved.sealed = keys[1].sealed.clone();
    assert_eq!(signing_key(&world.sealer, &moved).unwrap_err(), Unsealable);
    let mut swapped = keys[0].clone();
    swapped.public = keys[1].public;
    assert_eq!(signing_key(&world.sealer, &swapped).unwrap_err(), Unsealable);
    assert_eq!(signing_key(&Sealer::new([8; 32], &[]), &keys[0]).unwrap_err(), Unsealable);
}

#[test]
fn secrets_are_not_printed() {
    let world = World::new();
    let key = &world.state.broker(A).unwrap().keys[0];
    let text = format!("{:?} {:?} {:?}", world.sealer, world.active_key(A), key);
    assert!(!text.contains("9, 9") && !text.contains("sealed") && text.contains(key.kid.as_str()), "{text}");
    let credential = world.one(A, None);
    assert!(!format!("{credential:?}").contains(&credential.token));
    let api = new_api_token(&world.rng);
    assert!(!format!("{api:?}").contains(&api.text[40..]));
}
