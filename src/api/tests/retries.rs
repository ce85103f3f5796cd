//! A write that is sent again.

use super::*;

const ID: &str = "00000000000000000000000000000abc";

fn id() -> String {
    ID.to_owned()
}

fn demo() -> String {
    "demo".to_owned()
}

fn hello() -> String {
    "hello".to_owned()
}

#[tokio::test]
async fn what_is_gone_is_deleted_again() {
    let world = World::with_broker().await;
    let revoke = admin::RevokeRequest { namespace: demo(), broker: hello(), jtis: vec!["j".into()], request_id: id() };
    let unrevoke =
        admin::UnrevokeRequest { namespace: demo(), broker: hello(), jtis: vec!["j".into()], request_id: id() };
    let delete = admin::DeleteBrokerRequest { namespace: demo(), broker: hello(), request_id: id() };
    let close = admin::DeleteNamespaceRequest { namespace: demo(), request_id: id() };
    world.brokers().revoke(world.ask(revoke.clone())).await.unwrap();
    world.brokers().unrevoke(world.ask(unrevoke.clone())).await.unwrap();
    for _ in 0..2 {
        world.brokers().delete(world.ask(delete.clone())).await.unwrap();
    }
    for _ in 0..2 {
        world.namespaces().delete(world.ask(close.clone())).await.unwrap();
    }
    world.brokers().revoke(world.ask(revoke.clone())).await.unwrap();
    world.brokers().unrevoke(world.ask(unrevoke)).await.unwrap();
    assert_eq!(world.others.waited.load(Ordering::Relaxed), 4, "a retry waits for all nodes, too");
    let another = admin::RevokeRequest { request_id: String::new(), ..revoke };
    assert_eq!(world.brokers().revoke(world.ask(another)).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn an_api_token_is_revoked_again() {
    let world = World::new().await;
    let make = admin::CreateTokenRequest { name: "ci".into(), ..<_>::default() };
    world.tokens().create(world.ask(make)).await.unwrap();
    for _ in 0..2 {
        let revoke = admin::RevokeTokenRequest { token: "ci".into(), request_id: id() };
        world.tokens().revoke(world.ask(revoke)).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_refused_is_refused_again() {
    let world = World::with_broker().await;
    let close = admin::DeleteNamespaceRequest { namespace: demo(), request_id: id() };
    let held = world.namespaces().delete(world.ask(close.clone())).await.unwrap_err();
    let delete = admin::DeleteBrokerRequest { namespace: demo(), broker: hello(), ..<_>::default() };
    world.brokers().delete(world.ask(delete)).await.unwrap();
    let again = world.namespaces().delete(world.ask(close)).await.unwrap_err();
    assert_eq!((again.code(), again.message()), (Code::FailedPrecondition, held.message()));
}

#[tokio::test]
async fn an_update_is_not_made_twice() {
    let world = World::with_broker().await;
    let update = |text: &str, request_id: &str| admin::UpdateBrokerRequest {
        namespace: demo(),
        broker: hello(),
        description: Some(text.into()),
        expiration: None,
        request_id: request_id.into(),
        ..Default::default()
    };
    world.brokers().update(world.ask(update("first", ID))).await.unwrap();
    world.brokers().update(world.ask(update("second", ""))).await.unwrap();
    let again = world.brokers().update(world.ask(update("first", ID))).await.unwrap().into_inner();
    assert_eq!(again.description, "second");
}

#[tokio::test]
async fn a_request_id_is_of_one_caller_and_one_kind_of_write() {
    let world = World::new().await;
    let first = world.create_namespace("demo", ID).await.unwrap();
    let other = World::token_of(&world.metadata, Scope::Account(AccountId(2))).await;
    let theirs = admin::CreateNamespaceRequest { name: "theirs".into(), request_id: id(), ..<_>::default() };
    let theirs = world.namespaces().create(ask_as(&other, theirs)).await.unwrap().into_inner();
    assert_eq!((theirs.name.as_str(), theirs.id == first.id), ("theirs", false));
    let broker = admin::CreateBrokerRequest { namespace: demo(), name: hello(), request_id: id(), ..<_>::default() };
    let broker = world.brokers().create(world.ask(broker)).await.unwrap().into_inner();
    assert_eq!(broker.name, "hello");
    assert_eq!(world.create_namespace("demo", ID).await.unwrap(), first);
}
