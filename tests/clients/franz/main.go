// franz: a million records through franz-go, every one checked, then the same topic through a group that stops and goes on.
// Run by tests/clients/test_franz.py:  franz BOOTSTRAP TOPIC GROUP PARTITIONS COUNT_PER_PARTITION   (`franz copy`: copy.go)
//
// The values follow one rule in writer and reader. Ends with "ok ..." and exit code 0, or says what was wrong.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const limit = 120 * time.Second

func value(partition int32, sequence int64) []byte {
	state := uint64(partition)*1_000_003 + uint64(sequence)
	out := make([]byte, 0, 40)
	for len(out) < 40 {
		state = state*6364136223846793005 + 1442695040888963407
		out = binary.BigEndian.AppendUint64(out, state)
	}
	return out
}

func produce(ctx context.Context, bootstrap, topic string, partitions int32, count int64) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(10*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	failed := make(chan error, 1)
	for sequence := int64(0); sequence < count; sequence++ {
		for partition := int32(0); partition < partitions; partition++ {
			record := &kgo.Record{Topic: topic, Partition: partition, Value: value(partition, sequence)}
			expected := sequence
			client.Produce(ctx, record, func(done *kgo.Record, err error) {
				if err == nil && done.Offset != expected {
					err = fmt.Errorf("record %d was acknowledged at offset %d", expected, done.Offset)
				}
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// consume takes records until stop of them came, and checks that each partition goes on at next.
func consume(ctx context.Context, client *kgo.Client, next []int64, stop int64) error {
	for seen := int64(0); seen < stop; {
		fetches := client.PollRecords(ctx, int(min(stop-seen, 10_000)))
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		for _, record := range fetches.Records() {
			sequence := next[record.Partition]
			if record.Offset != sequence || !bytes.Equal(record.Value, value(record.Partition, sequence)) {
				return fmt.Errorf("partition %d offset %d is not record %d", record.Partition, record.Offset, sequence)
			}
			next[record.Partition]++
			seen++
		}
	}
	return nil
}

func consumeAll(ctx context.Context, bootstrap, topic string, partitions int32, count int64) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	return consume(ctx, client, make([]int64, partitions), int64(partitions)*count)
}

// inGroup reads a part in one member, commits, and the rest in the next one.
func inGroup(ctx context.Context, bootstrap, topic, group string, partitions int32, count int64) error {
	next := make([]int64, partitions)
	total := int64(partitions) * count
	for _, part := range []int64{total / 3, total - total/3} {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(bootstrap),
			kgo.ConsumeTopics(topic),
			kgo.ConsumerGroup(group),
			kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		)
		if err != nil {
			return err
		}
		err = consume(ctx, client, next, part)
		if err == nil {
			err = client.CommitUncommittedOffsets(ctx)
		}
		client.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func run(arguments []string) error {
	if len(arguments) > 1 && arguments[1] == "copy" {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return runCopy(ctx, arguments[2:])
	}
	if len(arguments) != 6 {
		return errors.New("usage: franz BOOTSTRAP TOPIC GROUP PARTITIONS COUNT_PER_PARTITION")
	}
	bootstrap, topic, group := arguments[1], arguments[2], arguments[3]
	partitions, err := strconv.ParseInt(arguments[4], 10, 32)
	if err != nil {
		return err
	}
	count, err := strconv.ParseInt(arguments[5], 10, 64)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := produce(ctx, bootstrap, topic, int32(partitions), count); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	if err := consumeAll(ctx, bootstrap, topic, int32(partitions), count); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	if err := inGroup(ctx, bootstrap, topic, group, int32(partitions), count); err != nil {
		return fmt.Errorf("in a group: %w", err)
	}
	fmt.Printf("ok %d records\n", partitions*count)
	return nil
}

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
