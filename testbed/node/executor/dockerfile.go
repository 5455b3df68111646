package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/sirupsen/logrus"
)

const scratch = "scratch"

// stage is one FROM with what is known before anything is built.
type stage struct {
	index    int
	name     string
	base     string
	commands []instructions.Command
	meta     []instructions.ArgCommand
	final    bool
}

// parseDockerfile reads the stages that the target needs, with every ARG
// before FROM resolved and every COPY --from naming its stage by number.
func parseDockerfile(path string, opts *options) ([]stage, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading dockerfile at path %s: %w", path, err)
	}
	parsed, meta, err := parseInstructions(text)
	if err != nil {
		return nil, fmt.Errorf("parsing dockerfile: %w", err)
	}
	if err := refuseUnsupported(parsed); err != nil {
		return nil, err
	}
	if err := expandMeta(meta, opts.buildArgs); err != nil {
		return nil, fmt.Errorf("expanding meta ARGs: %w", err)
	}
	if len(parsed) == 0 {
		return nil, errors.New("dockerfile must contain at least one FROM instruction")
	}
	last, err := targetIndex(parsed, opts.target)
	if err != nil {
		return nil, fmt.Errorf("error finding target stage: %w", err)
	}
	parsed = parsed[:last+1]
	numbers := map[string]int{}
	for i, each := range parsed {
		if each.Name != "" {
			numbers[strings.ToLower(each.Name)] = i
		}
	}
	stages := make([]stage, len(parsed))
	visible := metaEnvironment(meta, opts.buildArgs)
	for i, each := range parsed {
		base, err := expandWord(each.BaseName, visible)
		if err != nil {
			return nil, fmt.Errorf("resolving args: resolving base name %s: %w", each.BaseName, err)
		}
		if earlier, known := numbers[strings.ToLower(base)]; known && earlier < i {
			return nil, fmt.Errorf("the GoService test stand-in does not build FROM an earlier stage (%s), run with the real Kaniko", base)
		}
		if err := numberCopies(each.Commands, numbers, len(parsed), i); err != nil {
			return nil, err
		}
		stages[i] = stage{
			index: i, name: each.Name, base: base, commands: each.Commands, meta: meta, final: i == last,
		}
	}
	return onlyUsed(stages), nil
}

func parseInstructions(text []byte) ([]instructions.Stage, []instructions.ArgCommand, error) {
	tree, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	warn := func(rule, _, url, message string, where []parser.Range) {
		if len(where) > 0 {
			message += fmt.Sprintf(" (line %d)", where[0].Start.Line)
		}
		logrus.Warnf("%s: %s\n\t%s", rule, message, url)
	}
	return instructions.Parse(tree.AST, linter.New(&linter.Config{Warn: warn}))
}

// refuseUnsupported fails on whatever the operator does not render, instead of
// building something else than Kaniko would.
func refuseUnsupported(stages []instructions.Stage) error {
	for _, each := range stages {
		if each.Platform != "" {
			return unsupportedAt("FROM --platform", each.Location)
		}
		for _, command := range each.Commands {
			switch kind := command.(type) {
			case *instructions.RunCommand:
				if len(kind.FlagsUsed) > 0 {
					return unsupportedAt("RUN --"+kind.FlagsUsed[0], kind.Location())
				}
				if len(kind.Files) > 0 {
					return unsupportedAt("a heredoc in RUN", kind.Location())
				}
			case *instructions.CopyCommand:
				switch {
				case kind.Chmod != "":
					return unsupportedAt("COPY --chmod", kind.Location())
				case kind.Link:
					return unsupportedAt("COPY --link", kind.Location())
				case kind.Parents:
					return unsupportedAt("COPY --parents", kind.Location())
				case len(kind.ExcludePatterns) > 0:
					return unsupportedAt("COPY --exclude", kind.Location())
				case len(kind.SourceContents) > 0:
					return unsupportedAt("a heredoc in COPY", kind.Location())
				}
			case *instructions.ArgCommand, *instructions.EnvCommand, *instructions.UserCommand,
				*instructions.WorkdirCommand, *instructions.LabelCommand, *instructions.EntrypointCommand,
				*instructions.CmdCommand, *instructions.ExposeCommand:
			default:
				return unsupportedAt(strings.ToUpper(command.Name()), command.Location())
			}
		}
	}
	return nil
}

func unsupportedAt(what string, where []parser.Range) error {
	line := 0
	if len(where) > 0 {
		line = where[0].Start.Line
	}
	return fmt.Errorf("the GoService test stand-in does not support %s (line %d), run with the real Kaniko", what, line)
}

// expandMeta resolves the defaults of ARGs before the first FROM against the
// ARGs before them and --build-arg.
func expandMeta(meta []instructions.ArgCommand, given []string) error {
	var earlier []string
	for i := range meta {
		for j, argument := range meta[i].Args {
			if argument.Value == nil {
				continue
			}
			value, err := unquoted(*argument.Value)
			if err != nil {
				return err
			}
			value, err = expandWord(value, append(append([]string{}, earlier...), given...))
			if err != nil {
				return err
			}
			earlier = append(earlier, argument.Key+"="+value)
			meta[i].Args[j].Value = &value
		}
	}
	return nil
}

// unquoted removes one pair of enclosing quotes.
func unquoted(value string) (string, error) {
	if len(value) < 2 {
		return value, nil
	}
	first, last := value[0], value[len(value)-1]
	opens, closes := first == '"' || first == '\'', last == '"' || last == '\''
	switch {
	case opens && first == last:
		return value[1 : len(value)-1], nil
	case opens || (closes && value[len(value)-2] != '\\'):
		return "", errors.New("quotes wrapping arg values must be matched")
	default:
		return value, nil
	}
}

// metaEnvironment is what FROM sees: a non-empty --build-arg wins over the
// default.
func metaEnvironment(meta []instructions.ArgCommand, given []string) []string {
	values := map[string]string{}
	for _, command := range meta {
		for _, argument := range command.Args {
			if argument.Value != nil {
				values[argument.Key] = *argument.Value
			}
		}
	}
	for _, argument := range given {
		if key, value, found := strings.Cut(argument, "="); found && value != "" {
			values[key] = value
		}
	}
	environment := make([]string, 0, len(values))
	for key, value := range values {
		environment = append(environment, key+"="+value)
	}
	return environment
}

func targetIndex(stages []instructions.Stage, target []string) (int, error) {
	if len(target) == 0 {
		return len(stages) - 1, nil
	}
	if len(target) > 1 {
		return 0, errors.New("the GoService test stand-in takes one --target, run with the real Kaniko")
	}
	for i, each := range stages {
		if strings.EqualFold(each.Name, target[0]) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%q is not a valid target build stage", target[0])
}

func numberCopies(commands []instructions.Command, numbers map[string]int, count, current int) error {
	for _, command := range commands {
		copying, is := command.(*instructions.CopyCommand)
		if !is || copying.From == "" {
			continue
		}
		if number, known := numbers[strings.ToLower(copying.From)]; known {
			copying.From = strconv.Itoa(number)
		}
		number, err := strconv.Atoi(copying.From)
		if err != nil {
			return fmt.Errorf("the GoService test stand-in does not copy from another image (%s), run with the real Kaniko", copying.From)
		}
		if number < 0 || number >= count {
			return fmt.Errorf("stage %d: COPY --from=%d refers to a stage that does not exist", current, number)
		}
		if number >= current {
			return fmt.Errorf("%s refers to invalid stage: %d", copying.String(), number)
		}
	}
	return nil
}

// onlyUsed drops the stages that neither are the target nor are copied from.
func onlyUsed(stages []stage) []stage {
	used := make([]bool, len(stages))
	used[len(stages)-1] = true
	for i := len(stages) - 1; i >= 0; i-- {
		if !used[i] {
			continue
		}
		for _, command := range stages[i].commands {
			if copying, is := command.(*instructions.CopyCommand); is && copying.From != "" {
				if number, err := strconv.Atoi(copying.From); err == nil {
					used[number] = true
				}
			}
		}
	}
	var kept []stage
	for i, each := range stages {
		if used[i] {
			kept = append(kept, each)
		}
	}
	return kept
}
