// A client of Kuueri Tasks in Node.js that reads the protos at run time: node dynamic.js ADDRESS TARGET EMAIL
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import protobuf from "protobufjs";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const PROTOS = new URL("../../protos", import.meta.url).pathname;
const [address, target, email] = process.argv.slice(2);

const definition = protoLoader.loadSync(
  ["kuueri/tasks/v1/task_service.proto", "kuueri/tasks/v1/project_service.proto"],
  { includeDirs: [PROTOS], keepCase: true, enums: String, longs: String, oneofs: true },
);
const { TaskService, ProjectService } = grpc.loadPackageDefinition(definition).kuueri.tasks.v1;
const details = new protobuf.Root();
details.resolvePath = (_, path) => `${PROTOS}/${path}`;
details.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"]);

const options = { "grpc.keepalive_time_ms": 30_000 };
const projects = new ProjectService(address, grpc.credentials.createInsecure(), options);
const tasks = new TaskService(address, grpc.credentials.createInsecure(), options);

const call = (client, method, request, metadata = new grpc.Metadata()) =>
  promisify(client[method]).call(client, request, metadata, { deadline: Date.now() + 10_000 });

function authorization(token) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${token}`);
  return metadata;
}

/** Yields the messages of a watch until the task has ended; connects again where the stream breaks. */
async function* follow(taskId, resumeToken, metadata) {
  for (let pause = 100; ; pause = Math.min(2 * pause, 10_000)) {
    // No deadline: the task decides how long this lasts.
    const stream = tasks.Watch({ task_id: taskId, resume_token: resumeToken }, metadata);
    try {
      for await (const message of stream) {
        resumeToken = message.resume_token;
        pause = 100;
        yield message;
      }
      return;
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE) throw error;
    } finally {
      stream.cancel();
    }
    await sleep(pause * (0.5 + Math.random() / 2));
  }
}

/** Returns the detail of a type in a `google.rpc.Status`. Fields of google.rpc are in camel case here. */
function detail(status, type) {
  const any = status.details.find((one) => (one.type_url ?? one.typeUrl).endsWith(`/${type}`));
  return any && details.lookupType(type).decode(any.value);
}

/** Returns the reason of a call that failed, as `TASK_NOT_FOUND`. */
function reason(error) {
  const [binary] = error.metadata.get("grpc-status-details-bin");
  return detail(details.lookupType("google.rpc.Status").decode(binary), "google.rpc.ErrorInfo").reason;
}

const name = (event) => event.type.replace("EVENT_TYPE_", "");

const { token } = await call(projects, "Register", { email });
const metadata = authorization(token);
console.log("registered");

const httpTarget = { url: target, body: Buffer.from('{"order": 42}') };
const once = { task: { http_target: httpTarget }, request_id: "order-42" };
const first = (await call(tasks, "Subscribe", once, metadata)).task;
const again = (await call(tasks, "Subscribe", once, metadata)).task;
console.log(`subscribed once: ${first.task_id === again.task_id}`);

let resumeToken = "";
for await (const message of follow(first.task_id, "", metadata)) {
  resumeToken = message.resume_token;
  if (message.event) {
    console.log(`watched: ${name(message.event)}`);
    break;
  }
}
const rest = [];
for await (const message of follow(first.task_id, resumeToken, metadata)) {
  if (message.event) rest.push(name(message.event));
}
console.log(`resumed: ${rest.join(" ")}`);

const batch = { tasks: [{ http_target: httpTarget }, { http_target: { url: "nowhere" } }] };
for (const result of (await call(tasks, "BatchSubscribe", batch, metadata)).results) {
  if (result.task) console.log("batch: accepted");
  else console.log(`batch: refused ${detail(result.error, "google.rpc.BadRequest").fieldViolations[0].field}`);
}

const later = { task: { http_target: httpTarget, schedule: { delay: { seconds: 3_600 } } } };
const waiting = (await call(tasks, "Subscribe", later, metadata)).task;
const canceled = (await call(tasks, "Cancel", { task_id: waiting.task_id }, metadata)).task;
console.log(`canceled: ${canceled.state}`);

await call(tasks, "GetTask", { task_id: "nothing" }, metadata).catch((error) =>
  console.log(`unknown task: ${reason(error)}`),
);
await call(tasks, "GetTask", { task_id: "nothing" }, authorization(`${token}x`)).catch((error) =>
  console.log(`bad token: ${reason(error)}`),
);
projects.close();
tasks.close();
