// Checks answers two questions with the code that decides them elsewhere: how BuildKit reads a
// Dockerfile, and whether Kubernetes' Pod Security admits a pod. Questions come as JSON, one a line,
// on standard input; each gets one line of JSON on standard output, in order.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

type question struct {
	Dockerfile *string `json:"dockerfile"`
	Pod        *pod    `json:"pod"`
}

func main() {
	if err := answerAll(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answerAll() error {
	security, err := newSecurity()
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	decoder := json.NewDecoder(lines)
	decoder.DisallowUnknownFields()
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	for decoder.More() {
		var asked question
		if err := decoder.Decode(&asked); err != nil {
			return fmt.Errorf("a question is not JSON: %w", err)
		}
		var answer any
		switch {
		case asked.Dockerfile != nil:
			answer = read(*asked.Dockerfile)
		case asked.Pod != nil:
			answer, err = security.judge(*asked.Pod)
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("a question asks nothing: dockerfile or pod is needed")
		}
		if err := encoder.Encode(answer); err != nil {
			return err
		}
	}
	return nil
}
