//! The sender of a request. Requests are not authenticated yet, so it is unknown; an authentication layer will run
//! before the routes and set [`Requester`], and operations are then stored with that name.

use axum::{extract::Request, middleware::Next, response::Response};
use evener_core::principal::Principal;

/// The sender of a request, if known: an extension of every request that reaches a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requester(pub Option<Principal>);

/// Sets an unknown requester on a request without one.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Requester>().is_none() {
        request.extensions_mut().insert(Requester::default());
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Extension;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        http::{
            CONNECTIONS_MAX, serve,
            tests::{Small, router},
        },
        metrics::Metrics,
    };

    #[tokio::test]
    async fn the_requester_is_the_principal_of_a_change() {
        let small = Arc::new(Small::default());
        for principal in [None, Some(Principal("ada".into()))] {
            let mut router = router(small.clone());
            let requester = Requester(principal.clone());
            if requester != Requester::default() {
                router = router.layer(Extension(requester));
            }
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/processors", listener.local_addr().unwrap());
            tokio::spawn(serve(listener, router, CONNECTIONS_MAX, Metrics::default(), CancellationToken::new()));
            let body = r#"{"name":"p","exec":"true"}"#;
            let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
            assert!(answer.status().is_success(), "{answer:?}");
            assert_eq!(small.changes.lock().pop().unwrap().principal, principal);
        }
    }
}
