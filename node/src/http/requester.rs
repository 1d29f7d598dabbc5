//! Who sent a request. Requests are not authenticated yet, so nobody is known; whatever does that will stand before the
//! routes and set [`Requester`], and what is asked is then kept under that name.

use axum::{extract::Request, middleware::Next, response::Response};
use evener_core::principal::Principal;

/// Who sent a request: an extension of every request that reaches a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requester(pub Option<Principal>);

/// Gives a request of which nobody has said who sent it a requester who is not known.
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
    async fn who_sent_a_change_is_its_principal() {
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
