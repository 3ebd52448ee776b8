// copy: records from one topic to another in transactions of franz-go's group sessions, two members of which one comes and
// goes. Run by tests/clients/test_franz.py:  franz copy BOOTSTRAP FROM TO GROUP PARTITIONS COUNT_PER_PARTITION
//
// Every fourth transaction is aborted on purpose; what it took is taken again. A reader of committed records must see each
// record once and in its order.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type copying struct {
	bootstrap, from, to, group string
	partitions                 int32
	count                      int64
	done                       atomic.Int64
	failed                     chan error
}

// member copies until there is nothing left or its context ends.
func (c *copying) member(ctx context.Context, name string) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(c.bootstrap),
		kgo.TransactionalID(c.group+"-"+name),
		kgo.ConsumerGroup(c.group),
		kgo.ConsumeTopics(c.from),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for round := 1; c.done.Load() < int64(c.partitions)*c.count; round++ {
		fetches := session.PollRecords(ctx, 50)
		if ctx.Err() != nil {
			return nil
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		if err := session.Begin(); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		failed := kgo.AbortingFirstErrPromise(session.Client())
		taken := int64(0)
		fetches.EachRecord(func(record *kgo.Record) {
			taken++
			session.Produce(context.Background(), &kgo.Record{Topic: c.to, Partition: record.Partition, Value: record.Value}, failed.Promise())
		})
		meant := failed.Err() == nil && round%4 != 0
		committed, err := session.End(context.Background(), kgo.TransactionEndTry(meant))
		if err != nil {
			return fmt.Errorf("end: %w", err)
		}
		if committed {
			c.done.Add(taken)
		}
	}
	return nil
}

// await returns when so many records are copied; when a member failed they never are.
func (c *copying) await(ctx context.Context, count int64) error {
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for c.done.Load() < count {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d copies: %w", c.done.Load(), count, ctx.Err())
		case err := <-c.failed:
			return err
		case <-ticks.C:
		}
	}
	return nil
}

// check reads the copies that are committed.
func (c *copying) check(ctx context.Context) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(c.bootstrap),
		kgo.ConsumeTopics(c.to),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	next := make([]int64, c.partitions)
	for left := int64(c.partitions) * c.count; left > 0; {
		fetches := client.PollRecords(ctx, 1000)
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		for _, record := range fetches.Records() {
			if string(record.Value) != string(value(record.Partition, next[record.Partition])) {
				return fmt.Errorf("partition %d offset %d is not the copy of record %d", record.Partition, record.Offset, next[record.Partition])
			}
			next[record.Partition]++
			left--
		}
	}
	return nil
}

func runCopy(ctx context.Context, words []string) error {
	if len(words) != 6 {
		return errors.New("usage: franz copy BOOTSTRAP FROM TO GROUP PARTITIONS COUNT_PER_PARTITION")
	}
	partitions, err := strconv.ParseInt(words[4], 10, 32)
	if err != nil {
		return err
	}
	count, err := strconv.ParseInt(words[5], 10, 64)
	if err != nil {
		return err
	}
	c := &copying{bootstrap: words[0], from: words[1], to: words[2], group: words[3], partitions: int32(partitions), count: count,
		failed: make(chan error, 2)}
	if err := produce(ctx, c.bootstrap, c.from, c.partitions, c.count); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	var members sync.WaitGroup
	join := func(ctx context.Context, name string) {
		members.Add(1)
		go func() {
			defer members.Done()
			if err := c.member(ctx, name); err != nil {
				c.failed <- fmt.Errorf("the %s member: %w", name, err)
			}
		}()
	}
	join(ctx, "first")
	if err := c.await(ctx, 1); err != nil {
		return err
	}
	visit, leave := context.WithCancel(ctx)
	defer leave()
	join(visit, "second")
	if err := c.await(ctx, int64(c.partitions)*c.count/2); err != nil {
		return err
	}
	leave()
	if err := c.await(ctx, int64(c.partitions)*c.count); err != nil {
		return err
	}
	members.Wait()
	if err := c.check(ctx); err != nil {
		return err
	}
	fmt.Printf("ok %d copies\n", int64(c.partitions)*c.count)
	return nil
}
