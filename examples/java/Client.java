// A client of Kuueri Tasks in Java: java Client ADDRESS TARGET EMAIL

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import com.kuueri.tasks.v1.*;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

public final class Client {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private static Metadata authorization(String token) {
    Metadata metadata = new Metadata();
    metadata.put(AUTHORIZATION, "Bearer " + token);
    return metadata;
  }

  private static TaskServiceGrpc.TaskServiceBlockingStub authorized(ManagedChannel channel, String token) {
    return TaskServiceGrpc.newBlockingStub(channel)
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(authorization(token)));
  }

  private static <S extends AbstractStub<S>> S brief(S stub) {
    return stub.withDeadlineAfter(10, TimeUnit.SECONDS);
  }

  /** Hands over the messages of a watch until the task has ended; connects again where the stream breaks. */
  private static void follow(
      TaskServiceGrpc.TaskServiceBlockingStub tasks, String taskId, String resumeToken,
      Predicate<WatchResponse> goOn) throws InterruptedException {
    for (long pause = 100; ; pause = Math.min(2 * pause, 10_000)) {
      // A stream of the blocking stub is ended by cancelling the context that it was opened in.
      Context.CancellableContext context = Context.current().withCancellation();
      Context before = context.attach();
      try {
        WatchRequest request = WatchRequest.newBuilder().setTaskId(taskId).setResumeToken(resumeToken).build();
        // No deadline: the task decides how long this lasts.
        var messages = tasks.watch(request);
        while (messages.hasNext()) {
          WatchResponse message = messages.next();
          resumeToken = message.getResumeToken();
          pause = 100;
          if (!goOn.test(message)) return;
        }
        return;
      } catch (StatusRuntimeException error) {
        if (error.getStatus().getCode() != io.grpc.Status.Code.UNAVAILABLE) throw error;
      } finally {
        context.detach(before);
        context.cancel(null);
      }
      Thread.sleep((long) (pause * ThreadLocalRandom.current().nextDouble(0.5, 1)));
    }
  }

  /** Returns the detail of a type; the default message where there is none. */
  private static <M extends Message> M detail(Status status, Class<M> type, M none)
      throws InvalidProtocolBufferException {
    for (Any any : status.getDetailsList()) {
      if (any.is(type)) return any.unpack(type);
    }
    return none;
  }

  /** Returns the reason of a call that failed, as TASK_NOT_FOUND. */
  private static String reason(StatusRuntimeException error) throws InvalidProtocolBufferException {
    return detail(StatusProto.fromThrowable(error), ErrorInfo.class, ErrorInfo.getDefaultInstance()).getReason();
  }

  private static String name(TimelineEvent event) {
    return event.getType().name().replace("EVENT_TYPE_", "");
  }

  private static SubscribeRequest.Builder subscribe(HttpTarget target) {
    return SubscribeRequest.newBuilder().setTask(Task.newBuilder().setHttpTarget(target));
  }

  public static void main(String[] arguments) throws Exception {
    String address = arguments[0], url = arguments[1], email = arguments[2];
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address)
        .usePlaintext().keepAliveTime(30, TimeUnit.SECONDS).build();
    try {
      run(channel, url, email);
    } finally {
      channel.shutdown();
    }
  }

  private static void run(ManagedChannel channel, String url, String email) throws Exception {
    String token = brief(ProjectServiceGrpc.newBlockingStub(channel).withWaitForReady())
        .register(RegisterRequest.newBuilder().setEmail(email).build()).getToken();
    var tasks = authorized(channel, token);
    System.out.println("registered");

    HttpTarget target = HttpTarget.newBuilder()
        .setUrl(url).setBody(ByteString.copyFromUtf8("{\"order\": 42}")).build();
    SubscribeRequest once = subscribe(target).setRequestId("order-42").build();
    String first = brief(tasks).subscribe(once).getTask().getTaskId();
    String again = brief(tasks).subscribe(once).getTask().getTaskId();
    System.out.println("subscribed once: " + first.equals(again));

    String[] resumeToken = {""};
    follow(tasks, first, "", message -> {
      resumeToken[0] = message.getResumeToken();
      if (message.hasEvent()) System.out.println("watched: " + name(message.getEvent()));
      return !message.hasEvent();
    });
    List<String> rest = new ArrayList<>();
    follow(tasks, first, resumeToken[0], message -> {
      if (message.hasEvent()) rest.add(name(message.getEvent()));
      return true;
    });
    System.out.println("resumed: " + String.join(" ", rest));

    BatchSubscribeRequest batch = BatchSubscribeRequest.newBuilder()
        .addTasks(Task.newBuilder().setHttpTarget(target))
        .addTasks(Task.newBuilder().setHttpTarget(HttpTarget.newBuilder().setUrl("nowhere")))
        .build();
    for (BatchSubscribeResult result : brief(tasks).batchSubscribe(batch).getResultsList()) {
      if (result.hasTask()) {
        System.out.println("batch: accepted");
      } else {
        BadRequest bad = detail(result.getError(), BadRequest.class, BadRequest.getDefaultInstance());
        System.out.println("batch: refused " + bad.getFieldViolations(0).getField());
      }
    }

    SubscribeRequest.Builder later = subscribe(target);
    later.getTaskBuilder().setSchedule(Schedule.newBuilder().setDelay(Duration.newBuilder().setSeconds(3_600)));
    String waiting = brief(tasks).subscribe(later.build()).getTask().getTaskId();
    Task canceled = brief(tasks).cancel(CancelRequest.newBuilder().setTaskId(waiting).build()).getTask();
    System.out.println("canceled: " + canceled.getState());

    GetTaskRequest unknown = GetTaskRequest.newBuilder().setTaskId("nothing").build();
    try {
      brief(tasks).getTask(unknown);
    } catch (StatusRuntimeException error) {
      System.out.println("unknown task: " + reason(error));
    }
    try {
      brief(authorized(channel, token + "x")).getTask(unknown);
    } catch (StatusRuntimeException error) {
      System.out.println("bad token: " + reason(error));
    }
  }
}
