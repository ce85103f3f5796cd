//! The gRPC service that peers call.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures_util::Stream;
use rookery_proto::forward::forward_server::{Forward, ForwardServer};
use rookery_proto::forward::{
    DataReply, DataRequest, InterestReply, InterestRequest, RetainedDigestsReply, RetainedDigestsRequest,
    RetainedRecordsReply, RetainedRecordsRequest,
};
use tonic::{Request, Response, Status, Streaming};

use super::driver::Inner;
use super::{data_in, interest_in, retained};
use crate::limits;

/// The service to add to the server for peers.
pub type Service = ForwardServer<Door>;

/// Takes calls to the driver; refuses them as unavailable until there is one.
#[derive(Clone, Default)]
pub struct Door(Arc<OnceLock<Arc<Inner>>>);

impl Door {
    pub(super) fn open(&self, inner: Arc<Inner>) {
        // A door is opened once: `Forward::start` makes or takes one.
        let _ = self.0.set(inner);
    }

    fn inner(&self) -> Result<Arc<Inner>, Status> {
        self.0.get().cloned().ok_or_else(|| Status::unavailable("this node is starting"))
    }
}

/// The service behind `door`.
pub fn service(door: Door) -> Service {
    ForwardServer::new(door)
        .max_decoding_message_size(limits::MAX_GRPC_MESSAGE_BYTES)
        .max_encoding_message_size(limits::MAX_GRPC_MESSAGE_BYTES)
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Forward for Door {
    type DataStream = Replies<DataReply>;
    type InterestStream = Replies<InterestReply>;

    async fn data(&self, request: Request<Streaming<DataRequest>>) -> Result<Response<Self::DataStream>, Status> {
        let replies = data_in::serve(self.inner()?, request).await?;
        Ok(Response::new(Box::pin(replies)))
    }

    async fn interest(
        &self,
        request: Request<Streaming<InterestRequest>>,
    ) -> Result<Response<Self::InterestStream>, Status> {
        let replies = interest_in::serve(self.inner()?, request).await?;
        Ok(Response::new(Box::pin(replies)))
    }

    async fn retained_digests(
        &self,
        request: Request<RetainedDigestsRequest>,
    ) -> Result<Response<RetainedDigestsReply>, Status> {
        retained::digests(&*self.inner()?, &request).map(Response::new)
    }

    async fn retained_records(
        &self,
        request: Request<RetainedRecordsRequest>,
    ) -> Result<Response<RetainedRecordsReply>, Status> {
        retained::records(&*self.inner()?, &request).map(Response::new)
    }
}
