//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Page;

/// What the HTTP port asks of the node.
pub trait Health: Send + Sync + 'static {
    /// Whether it can serve clients, or why not.
    fn ready(&self) -> Result<(), String>;
    /// Fills a page of metrics.
    fn metrics(&self, page: &mut Page);
}

/// The routes. `/healthz`: the process answers. `/readyz`: clients are served here; 503 with the reason otherwise.
pub fn router(health: Arc<dyn Health>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn ready(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    match health.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    let mut page = Page::default();
    health.metrics(&mut page);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page.into_text())
}
