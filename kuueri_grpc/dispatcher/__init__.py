"""Sending attempts over HTTP: the implementation of `ports.Dispatcher`.

HttpDispatcher -> OriginGate          a slot at the target's origin
               -> build_request       the attempt as a Request, signed
               -> GuardedTransport    pooled connections; TargetPolicy on every dial, also by an EgressProxy
               -> Exchange            the request out, the answer in (AnswerReader), on one of them
               -> ShortageWait        where this process lacks what a connection takes
               -> next_request        if redirects are followed
               -> classify            whatever went wrong, as a Reason
"""

from kuueri_grpc.dispatcher.http import HttpDispatcher
from kuueri_grpc.dispatcher.proxy import EgressProxy
from kuueri_grpc.dispatcher.transport import GuardedTransport

__all__ = ["EgressProxy", "GuardedTransport", "HttpDispatcher"]
