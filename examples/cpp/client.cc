// A client of Kuueri Tasks in C++: client ADDRESS TARGET EMAIL

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>

#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/grpcpp.h>

#include "kuueri/tasks/v1/project_service.grpc.pb.h"
#include "kuueri/tasks/v1/task_service.grpc.pb.h"

using namespace kuueri::tasks::v1;
using namespace std::chrono_literals;

namespace {

std::unique_ptr<grpc::ClientContext> Context(const std::string& token = "") {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + 10s);
  if (!token.empty()) context->AddMetadata("authorization", "Bearer " + token);
  return context;
}

void Check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error_message());
}

// Hands over the messages of a watch until the task has ended or `go_on` returns false; connects again where the
// stream breaks.
void Follow(TaskService::Stub& tasks, const std::string& task_id, std::string resume_token, const std::string& token,
            const std::function<bool(const WatchResponse&)>& go_on) {
  std::mt19937 random{std::random_device{}()};
  for (double pause_s = 0.1;; pause_s = std::min(2 * pause_s, 10.0)) {
    WatchRequest request;
    request.set_task_id(task_id);
    request.set_resume_token(resume_token);
    grpc::ClientContext context;  // No deadline: the task decides how long this lasts.
    context.AddMetadata("authorization", "Bearer " + token);
    auto stream = tasks.Watch(&context, request);
    bool stopped = false;
    for (WatchResponse message; !stopped && stream->Read(&message); pause_s = 0.1) {
      resume_token = message.resume_token();
      stopped = !go_on(message);
    }
    if (stopped) context.TryCancel();
    grpc::Status status = stream->Finish();
    if (stopped || status.ok()) return;
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) Check(status);
    std::this_thread::sleep_for(std::chrono::duration<double>(pause_s * std::uniform_real_distribution<>(0.5, 1)(random)));
  }
}

// Returns the detail of type M; the default message where there is none.
template <typename M>
M Detail(const google::rpc::Status& status) {
  M message;
  for (const auto& any : status.details()) {
    if (any.Is<M>()) any.UnpackTo(&message);
  }
  return message;
}

// Returns the reason of a call that failed, as TASK_NOT_FOUND.
std::string Reason(const grpc::Status& status) {
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  return Detail<google::rpc::ErrorInfo>(details).reason();
}

std::string Name(const TimelineEvent& event) {
  return EventType_Name(event.type()).substr(std::string("EVENT_TYPE_").size());
}

void Run(const std::string& address, const std::string& target, const std::string& email) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  ProjectService::Stub projects(channel);
  TaskService::Stub tasks(channel);

  RegisterRequest registration;
  registration.set_email(email);
  RegisterResponse registered;
  Check(projects.Register(Context().get(), registration, &registered));
  const std::string token = registered.token();
  std::cout << "registered\n";

  SubscribeRequest once;
  once.set_request_id("order-42");
  once.mutable_task()->mutable_http_target()->set_url(target);
  once.mutable_task()->mutable_http_target()->set_body(R"({"order": 42})");
  SubscribeResponse first, again;
  Check(tasks.Subscribe(Context(token).get(), once, &first));
  Check(tasks.Subscribe(Context(token).get(), once, &again));
  std::cout << "subscribed once: " << std::boolalpha << (first.task().task_id() == again.task().task_id()) << "\n";

  std::string resume_token, rest;
  Follow(tasks, first.task().task_id(), "", token, [&](const WatchResponse& message) {
    resume_token = message.resume_token();
    if (message.has_event()) std::cout << "watched: " << Name(message.event()) << "\n";
    return !message.has_event();
  });
  Follow(tasks, first.task().task_id(), resume_token, token, [&](const WatchResponse& message) {
    if (message.has_event()) rest += " " + Name(message.event());
    return true;
  });
  std::cout << "resumed:" << rest << "\n";

  BatchSubscribeRequest batch;
  *batch.add_tasks()->mutable_http_target() = once.task().http_target();
  batch.add_tasks()->mutable_http_target()->set_url("nowhere");
  BatchSubscribeResponse answer;
  Check(tasks.BatchSubscribe(Context(token).get(), batch, &answer));
  for (const auto& result : answer.results()) {
    if (result.has_task()) {
      std::cout << "batch: accepted\n";
    } else {
      std::cout << "batch: refused " << Detail<google::rpc::BadRequest>(result.error()).field_violations(0).field() << "\n";
    }
  }

  SubscribeRequest later;
  *later.mutable_task()->mutable_http_target() = once.task().http_target();
  later.mutable_task()->mutable_schedule()->mutable_delay()->set_seconds(3'600);
  SubscribeResponse waiting;
  Check(tasks.Subscribe(Context(token).get(), later, &waiting));
  CancelRequest cancel;
  cancel.set_task_id(waiting.task().task_id());
  CancelResponse canceled;
  Check(tasks.Cancel(Context(token).get(), cancel, &canceled));
  std::cout << "canceled: " << TaskState_Name(canceled.task().state()) << "\n";

  GetTaskRequest unknown;
  unknown.set_task_id("nothing");
  GetTaskResponse none;
  std::cout << "unknown task: " << Reason(tasks.GetTask(Context(token).get(), unknown, &none)) << "\n";
  std::cout << "bad token: " << Reason(tasks.GetTask(Context(token + "x").get(), unknown, &none)) << "\n";
}

}  // namespace

int main(int, char** arguments) {
  try {
    Run(arguments[1], arguments[2], arguments[3]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
