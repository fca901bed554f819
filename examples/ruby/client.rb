# A client of Kuueri Tasks in Ruby: ruby client.rb ADDRESS TARGET EMAIL

require "grpc"
require "grpc/google_rpc_status_utils"
require "google/protobuf/well_known_types"
require "google/rpc/error_details_pb"
require "kuueri/tasks/v1/project_service_services_pb"
require "kuueri/tasks/v1/task_service_services_pb"

include Kuueri::Tasks::V1

DEADLINE_S = 10

def deadline
  Time.now + DEADLINE_S
end

def authorization(token)
  { "authorization" => "Bearer #{token}" }
end

# Yields the messages of a watch until the task has ended, or the block returns :stop; connects again where
# the stream breaks.
def follow(tasks, task_id, resume_token, metadata)
  pause = 0.1
  loop do
    # No deadline: the task decides how long this lasts.
    request = WatchRequest.new(task_id: task_id, resume_token: resume_token)
    watch = tasks.watch(request, metadata: metadata, return_op: true)
    begin
      watch.execute.each do |message|
        resume_token, pause = message.resume_token, 0.1
        return watch.cancel if yield(message) == :stop
      end
      return
    rescue GRPC::Unavailable
      sleep(pause * rand(0.5..1.0))
      pause = [2 * pause, 10].min
    end
  end
end

# Returns the detail of a type in a Google::Rpc::Status.
def detail(status, type)
  status.details.find { |any| any.is(type) }&.unpack(type)
end

# Returns the reason of a call that failed, as "TASK_NOT_FOUND".
def reason(error)
  detail(error.to_rpc_status, Google::Rpc::ErrorInfo).reason
end

def name(event)
  event.type.to_s.delete_prefix("EVENT_TYPE_")
end

address, target, email = ARGV
options = { channel_args: { "grpc.keepalive_time_ms" => 30_000 } }
projects = ProjectService::Stub.new(address, :this_channel_is_insecure, **options)
tasks = TaskService::Stub.new(address, :this_channel_is_insecure, **options)

token = projects.register(RegisterRequest.new(email: email), deadline: deadline).token
metadata = authorization(token)
puts "registered"

http_target = HttpTarget.new(url: target, body: '{"order": 42}')
once = SubscribeRequest.new(task: Task.new(http_target: http_target), request_id: "order-42")
first = tasks.subscribe(once, metadata: metadata, deadline: deadline).task
again = tasks.subscribe(once, metadata: metadata, deadline: deadline).task
puts "subscribed once: #{first.task_id == again.task_id}"

resume_token = ""
follow(tasks, first.task_id, "", metadata) do |message|
  resume_token = message.resume_token
  next unless message.event
  puts "watched: #{name(message.event)}"
  :stop
end
rest = []
follow(tasks, first.task_id, resume_token, metadata) do |message|
  rest << name(message.event) if message.event
end
puts "resumed: #{rest.join(" ")}"

nowhere = Task.new(http_target: HttpTarget.new(url: "nowhere"))
batch = BatchSubscribeRequest.new(tasks: [Task.new(http_target: http_target), nowhere])
tasks.batch_subscribe(batch, metadata: metadata, deadline: deadline).results.each do |result|
  if result.task
    puts "batch: accepted"
  else
    puts "batch: refused #{detail(result.error, Google::Rpc::BadRequest).field_violations.first.field}"
  end
end

later = Schedule.new(delay: Google::Protobuf::Duration.new(seconds: 3_600))
waiting = SubscribeRequest.new(task: Task.new(http_target: http_target, schedule: later))
task_id = tasks.subscribe(waiting, metadata: metadata, deadline: deadline).task.task_id
canceled = tasks.cancel(CancelRequest.new(task_id: task_id), metadata: metadata, deadline: deadline).task
puts "canceled: #{canceled.state}"

unknown = GetTaskRequest.new(task_id: "nothing")
begin
  tasks.get_task(unknown, metadata: metadata, deadline: deadline)
rescue GRPC::BadStatus => error
  puts "unknown task: #{reason(error)}"
end
begin
  tasks.get_task(unknown, metadata: authorization("#{token}x"), deadline: deadline)
rescue GRPC::BadStatus => error
  puts "bad token: #{reason(error)}"
end
