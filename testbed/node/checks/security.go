package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// pod is a pod's metadata and spec, and the level that it is held to.
type pod struct {
	Level    string            `json:"level"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     corev1.PodSpec    `json:"spec"`
}

type verdict struct {
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason"`
}

type security struct {
	evaluator policy.Evaluator
}

func newSecurity() (*security, error) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	return &security{evaluator}, nil
}

func (s *security) judge(asked pod) (verdict, error) {
	level, err := api.ParseLevel(asked.Level)
	if err != nil {
		return verdict{}, fmt.Errorf("level %q: %w", asked.Level, err)
	}
	held := api.LevelVersion{Level: level, Version: api.LatestVersion()}
	result := policy.AggregateCheckResults(s.evaluator.EvaluatePod(held, &asked.Metadata, &asked.Spec))
	return verdict{Allowed: result.Allowed, Reason: result.ForbiddenDetail()}, nil
}
