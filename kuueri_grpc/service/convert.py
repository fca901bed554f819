"""Writes answers: domain values to messages, exact to the millisecond."""

from kuueri_grpc.domain.task import (
    UNREADABLE_TARGET,
    Attempt,
    Backoff,
    HttpTarget,
    RepeatPolicy,
    RetryPolicy,
    Schedule,
    Task,
    TaskSpec,
)
from kuueri_grpc.domain.timeline import Reason, TimelineEvent, TimelineGap, describe
from kuueri_grpc.pb import project_pb2, task_pb2, timeline_pb2, token_pb2
from kuueri_grpc.ports import Credential, Project
from kuueri_grpc.service.enums import EVENT_TYPES, GROWTHS, HTTP_METHODS, REASONS, SCOPES, TASK_STATES
from kuueri_grpc.service.times import to_duration, to_timestamp, write_duration, write_timestamp
from kuueri_grpc.service.views import BASIC, FULL, View

_NO_SCHEDULE = Schedule()
_NO_RETRY = RetryPolicy()
_NO_REPEAT = RepeatPolicy()


def write_task(message: task_pb2.Task, task: Task, view: View) -> None:
    """Write into an empty message what the store knows of a task, and what its owner chose, with defaults.

    Field by field: to make messages of messages, or with empty maps, costs several times as much.
    """
    message.view = view
    message.task_id = task.spec.task_id
    message.queue = task.spec.queue
    message.state = TASK_STATES.number(task.state)
    write_timestamp(message.create_time, task.create_time_ms)
    if task.schedule_time_ms is not None:
        write_timestamp(message.schedule_time, task.schedule_time_ms)
    message.attempt_count = task.attempt_count
    message.retry_count = task.retry_count
    message.repeat_count = task.repeat_count
    if task.end_time_ms is not None:
        write_timestamp(message.end_time, task.end_time_ms)
    if task.last_attempt is not None:
        message.last_attempt.CopyFrom(_to_attempt(task.last_attempt))
    if view >= BASIC:
        _write_spec(message, task.spec, view)


def _write_spec(message: task_pb2.Task, spec: TaskSpec, view: View) -> None:
    if spec.target != UNREADABLE_TARGET:
        _write_target(message.http_target, spec.target, view)
    write_duration(message.attempt_timeout, spec.attempt_timeout_ms)
    if spec.labels:
        message.labels.update(spec.labels)
    if spec.schedule != _NO_SCHEDULE:
        message.schedule.CopyFrom(_to_schedule(spec.schedule))
    if spec.retry != _NO_RETRY:
        message.retry_policy.CopyFrom(_to_retry(spec.retry))
    if spec.repeat != _NO_REPEAT:
        message.repeat_policy.CopyFrom(_to_repeat(spec.repeat))


def _write_target(message: task_pb2.HttpTarget, target: HttpTarget, view: View) -> None:
    message.http_method = HTTP_METHODS.number(target.method)
    message.body_size = len(target.body)
    message.follow_redirects = target.follow_redirects
    if view == FULL:
        message.url = target.url
        if target.headers:
            message.headers.update(target.headers)
        if target.query_params:
            message.query_params.update(target.query_params)
        message.body = target.body
        return
    # What the target knows its caller by may be in values of headers and anywhere in a query.
    message.url, mark, _ = target.url.partition("?")
    message.url_query_hidden = bool(mark)
    if target.headers:
        message.header_names.extend(target.headers)
    if target.query_params:
        message.query_param_names.extend(target.query_params)


def _to_schedule(schedule: Schedule) -> task_pb2.Schedule:
    message = task_pb2.Schedule()
    if schedule.at_ms is not None:
        message.at.CopyFrom(to_timestamp(schedule.at_ms))
    elif schedule.delay_ms is not None:
        message.delay.CopyFrom(to_duration(schedule.delay_ms))
    if schedule.start_deadline_ms is not None:
        message.start_deadline.CopyFrom(to_duration(schedule.start_deadline_ms))
    return message


def _to_backoff(backoff: Backoff) -> task_pb2.Backoff:
    message = task_pb2.Backoff(
        interval=to_duration(backoff.interval_ms),
        growth=GROWTHS.number(backoff.growth),
        jitter=backoff.jitter,
    )
    if backoff.max_interval_ms is not None:
        message.max_interval.CopyFrom(to_duration(backoff.max_interval_ms))
    return message


def _to_retry(retry: RetryPolicy) -> task_pb2.RetryPolicy:
    message = task_pb2.RetryPolicy(
        max_retries=retry.max_retries, retryable_status_codes=retry.retryable_status_codes
    )
    if retry.retry_at_ms is not None:
        message.retry_at.CopyFrom(to_timestamp(retry.retry_at_ms))
    else:
        message.backoff.CopyFrom(_to_backoff(retry.backoff))
    if retry.max_duration_ms is not None:
        message.max_duration.CopyFrom(to_duration(retry.max_duration_ms))
    return message


def _to_repeat(repeat: RepeatPolicy) -> task_pb2.RepeatPolicy:
    message = task_pb2.RepeatPolicy(max_repeats=repeat.max_repeats)
    if repeat.repeat_at_ms is not None:
        message.repeat_at.CopyFrom(to_timestamp(repeat.repeat_at_ms))
    else:
        message.backoff.CopyFrom(_to_backoff(repeat.backoff))
    return message


def _to_attempt(attempt: Attempt) -> task_pb2.Attempt:
    return task_pb2.Attempt(
        attempt=attempt.attempt,
        dispatch_time=to_timestamp(attempt.dispatch_time_ms),
        status_code=attempt.status_code,
        latency=to_duration(attempt.latency_ms),
        reason=_to_reason(attempt.reason),
    )


def _to_reason(reason: Reason | None) -> timeline_pb2.Reason.ValueType:
    return timeline_pb2.REASON_UNSPECIFIED if reason is None else REASONS.number(reason)


def to_event(event: TimelineEvent) -> timeline_pb2.TimelineEvent:
    """Return an event with the sentence that describes it."""
    return timeline_pb2.TimelineEvent(
        sequence=event.sequence,
        task_id=event.task_id,
        create_time=to_timestamp(event.create_time_ms),
        type=EVENT_TYPES.number(event.type),
        description=describe(event),
        attempt=event.attempt,
        status_code=event.status_code,
        latency=None if event.latency_ms is None else to_duration(event.latency_ms),
        reason=_to_reason(event.reason),
        next_time=None if event.next_time_ms is None else to_timestamp(event.next_time_ms),
    )


def to_gap(gap: TimelineGap) -> timeline_pb2.TimelineGap:
    """Return the events that a timeline lacks."""
    return timeline_pb2.TimelineGap(first_sequence=gap.first_sequence, last_sequence=gap.last_sequence)


def to_project(project: Project) -> project_pb2.Project:
    """Return a project."""
    return project_pb2.Project(
        project_id=project.project_id,
        email=project.email,
        create_time=to_timestamp(project.create_time_ms),
        task_in_queue=project.task_in_queue,
        task_in_queue_limit=project.task_in_queue_limit,
    )


def to_access_token(credential: Credential) -> token_pb2.AccessToken:
    """Return what is known of a token."""
    message = token_pb2.AccessToken(
        key_id=credential.key_id,
        scope=SCOPES.number(credential.scope),
        display_name=credential.display_name,
    )
    if credential.create_time_ms is not None:
        message.create_time.CopyFrom(to_timestamp(credential.create_time_ms))
    if credential.expire_time_ms is not None:
        message.expire_time.CopyFrom(to_timestamp(credential.expire_time_ms))
    return message
