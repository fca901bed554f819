// A client of Kuueri Tasks in Node.js with generated code: node static.js ADDRESS TARGET EMAIL
import { create } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { setTimeout as sleep } from "node:timers/promises";

import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ProjectService } from "./gen/kuueri/tasks/v1/project_service_pb.js";
import { HttpTargetSchema, TaskState } from "./gen/kuueri/tasks/v1/task_pb.js";
import { TaskService } from "./gen/kuueri/tasks/v1/task_service_pb.js";
import { EventType } from "./gen/kuueri/tasks/v1/timeline_pb.js";

const [address, target, email] = process.argv.slice(2);
const transport = createGrpcTransport({ baseUrl: `http://${address}`, pingIntervalMs: 30_000 });
const projects = createClient(ProjectService, transport);
const tasks = createClient(TaskService, transport);
const authorization = (token) => ({ timeoutMs: 10_000, headers: { authorization: `Bearer ${token}` } });

/** Yields the messages of a watch until the task has ended; connects again where the stream breaks. */
async function* follow(taskId, resumeToken, headers) {
  const scope = { case: "taskId", value: taskId };
  for (let pause = 100; ; pause = Math.min(2 * pause, 10_000)) {
    try {
      // No deadline: the task decides how long this lasts.
      for await (const message of tasks.watch({ scope, resumeToken }, { headers })) {
        resumeToken = message.resumeToken;
        pause = 100;
        yield message;
      }
      return;
    } catch (error) {
      if (ConnectError.from(error).code !== Code.Unavailable) throw error;
    }
    await sleep(pause * (0.5 + Math.random() / 2));
  }
}

/** Returns the reason of a call that failed, as `TASK_NOT_FOUND`. */
const reason = (error) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0].reason;
const name = (event) => EventType[event.type];

const { token } = await projects.register({ email }, { timeoutMs: 10_000 });
const options = authorization(token);
console.log("registered");

const httpTarget = create(HttpTargetSchema, { url: target, body: Buffer.from('{"order": 42}') });
const task = { target: { case: "httpTarget", value: httpTarget } };
const once = { task, requestId: "order-42" };
const first = (await tasks.subscribe(once, options)).task;
const again = (await tasks.subscribe(once, options)).task;
console.log(`subscribed once: ${first.taskId === again.taskId}`);

let resumeToken = "";
for await (const message of follow(first.taskId, "", options.headers)) {
  resumeToken = message.resumeToken;
  if (message.message.case === "event") {
    console.log(`watched: ${name(message.message.value)}`);
    break;
  }
}
const rest = [];
for await (const { message } of follow(first.taskId, resumeToken, options.headers)) {
  if (message.case === "event") rest.push(name(message.value));
}
console.log(`resumed: ${rest.join(" ")}`);

const nowhere = { target: { case: "httpTarget", value: create(HttpTargetSchema, { url: "nowhere" }) } };
for (const { result } of (await tasks.batchSubscribe({ tasks: [task, nowhere] }, options)).results) {
  if (result.case === "task") console.log("batch: accepted");
  else {
    const violations = result.value.details.map((one) => anyUnpack(one, BadRequestSchema)).find(Boolean);
    console.log(`batch: refused ${violations.fieldViolations[0].field}`);
  }
}

const later = { ...task, schedule: { start: { case: "delay", value: { seconds: 3_600n } } } };
const waiting = (await tasks.subscribe({ task: later }, options)).task;
const canceled = (await tasks.cancel({ taskId: waiting.taskId }, options)).task;
console.log(`canceled: TASK_STATE_${TaskState[canceled.state]}`);

await tasks
  .getTask({ taskId: "nothing" }, options)
  .catch((error) => console.log(`unknown task: ${reason(error)}`));
await tasks
  .getTask({ taskId: "nothing" }, authorization(`${token}x`))
  .catch((error) => console.log(`bad token: ${reason(error)}`));
process.exit(); // The transport would keep the connection open until it has been idle for long.
