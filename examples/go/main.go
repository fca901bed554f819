// A client of Kuueri Tasks in Go: client ADDRESS TARGET EMAIL.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	tasksv1 "tasks.kuueri/gen/kuueri/tasks/v1"
)

const deadline = 10 * time.Second

func authorized(token string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
}

func brief(ctx context.Context) context.Context {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	time.AfterFunc(deadline, cancel)
	return ctx
}

var errStop = errors.New("seen enough")

// follow hands over the messages of a watch until the task has ended; it connects again where the stream breaks.
func follow(ctx context.Context, tasks tasksv1.TaskServiceClient, taskID, resumeToken string,
	handle func(*tasksv1.WatchResponse) error) error {
	pause := 100 * time.Millisecond
	for {
		// No deadline: the task decides how long this lasts.
		streamCtx, cancel := context.WithCancel(ctx)
		stream, err := tasks.Watch(streamCtx, &tasksv1.WatchRequest{
			Scope:       &tasksv1.WatchRequest_TaskId{TaskId: taskID},
			ResumeToken: resumeToken,
		})
		for err == nil {
			var message *tasksv1.WatchResponse
			if message, err = stream.Recv(); err == nil {
				resumeToken, pause = message.ResumeToken, 100*time.Millisecond
				err = handle(message)
			}
		}
		cancel()
		if err == io.EOF || err == errStop {
			return nil
		}
		if status.Code(err) != codes.Unavailable {
			return err
		}
		time.Sleep(time.Duration(float64(pause) * (0.5 + rand.Float64()/2)))
		if pause *= 2; pause > 10*time.Second {
			pause = 10 * time.Second
		}
	}
}

// reason is that of a call that failed, as TASK_NOT_FOUND.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

func name(event *tasksv1.TimelineEvent) string {
	return strings.TrimPrefix(event.Type.String(), "EVENT_TYPE_")
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	address, target, email := os.Args[1], os.Args[2], os.Args[3]
	connection, err := grpc.Dial(address, grpc.WithInsecure(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}))
	check(err)
	defer connection.Close()
	projects, tasks := tasksv1.NewProjectServiceClient(connection), tasksv1.NewTaskServiceClient(connection)

	registered, err := projects.Register(brief(context.Background()),
		&tasksv1.RegisterRequest{Email: email}, grpc.WaitForReady(true))
	check(err)
	ctx := authorized(registered.Token)
	fmt.Println("registered")

	httpTarget := &tasksv1.Task_HttpTarget{
		HttpTarget: &tasksv1.HttpTarget{Url: target, Body: []byte(`{"order": 42}`)},
	}
	once := &tasksv1.SubscribeRequest{Task: &tasksv1.Task{Target: httpTarget}, RequestId: "order-42"}
	first, err := tasks.Subscribe(brief(ctx), once)
	check(err)
	again, err := tasks.Subscribe(brief(ctx), once)
	check(err)
	fmt.Println("subscribed once:", first.Task.TaskId == again.Task.TaskId)

	resumeToken := ""
	check(follow(ctx, tasks, first.Task.TaskId, "", func(message *tasksv1.WatchResponse) error {
		resumeToken = message.ResumeToken
		if event := message.GetEvent(); event != nil {
			fmt.Println("watched:", name(event))
			return errStop
		}
		return nil
	}))
	var rest []string
	check(follow(ctx, tasks, first.Task.TaskId, resumeToken, func(message *tasksv1.WatchResponse) error {
		if event := message.GetEvent(); event != nil {
			rest = append(rest, name(event))
		}
		return nil
	}))
	fmt.Println("resumed:", strings.Join(rest, " "))

	nowhere := &tasksv1.Task_HttpTarget{HttpTarget: &tasksv1.HttpTarget{Url: "nowhere"}}
	batch, err := tasks.BatchSubscribe(brief(ctx), &tasksv1.BatchSubscribeRequest{
		Tasks: []*tasksv1.Task{{Target: httpTarget}, {Target: nowhere}},
	})
	check(err)
	for _, result := range batch.Results {
		if result.GetTask() != nil {
			fmt.Println("batch: accepted")
			continue
		}
		for _, detail := range status.FromProto(result.GetError()).Details() {
			if bad, ok := detail.(*errdetails.BadRequest); ok {
				fmt.Println("batch: refused", bad.FieldViolations[0].Field)
			}
		}
	}

	later := &tasksv1.Schedule{Start: &tasksv1.Schedule_Delay{Delay: durationpb.New(time.Hour)}}
	waiting, err := tasks.Subscribe(brief(ctx),
		&tasksv1.SubscribeRequest{Task: &tasksv1.Task{Target: httpTarget, Schedule: later}})
	check(err)
	canceled, err := tasks.Cancel(brief(ctx), &tasksv1.CancelRequest{TaskId: waiting.Task.TaskId})
	check(err)
	fmt.Println("canceled:", canceled.Task.State)

	_, err = tasks.GetTask(brief(ctx), &tasksv1.GetTaskRequest{TaskId: "nothing"})
	fmt.Println("unknown task:", reason(err))
	_, err = tasks.GetTask(brief(authorized(registered.Token+"x")), &tasksv1.GetTaskRequest{TaskId: "nothing"})
	fmt.Println("bad token:", reason(err))
}
