package main

import (
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// instruction is one line as BuildKit has it: quotes are gone, variables would be in place.
type instruction struct {
	Name      string   `json:"name"`
	Arguments []string `json:"arguments"`
	Flags     []string `json:"flags"`
	Shell     bool     `json:"shell"`
}

// reading is what BuildKit makes of a file. Variables are those that the file asks for.
type reading struct {
	Instructions []instruction `json:"instructions"`
	Variables    []string      `json:"variables"`
	Warnings     []string      `json:"warnings"`
	Error        string        `json:"error"`
}

// noted is an environment without variables, which notes what is asked of it.
type noted struct{ asked []string }

func (n *noted) Get(name string) (string, bool) {
	n.asked = append(n.asked, name)
	return "", false
}

func (n *noted) Keys() []string { return nil }

func read(text string) reading {
	result := reading{Instructions: []instruction{}, Variables: []string{}, Warnings: []string{}}
	parsed, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		result.Error = err.Error()
		return result
	}
	for _, warning := range parsed.Warnings {
		result.Warnings = append(result.Warnings, warning.Short)
	}
	if _, _, err := instructions.Parse(parsed.AST, nil); err != nil {
		result.Error = err.Error()
		return result
	}
	lexer := shell.NewLex(parsed.EscapeToken)
	environment := &noted{}
	for _, node := range parsed.AST.Children {
		found, err := words(node, lexer, environment)
		if err != nil {
			result.Error = err.Error()
			return result
		}
		result.Instructions = append(result.Instructions, found)
	}
	result.Variables = append(result.Variables, environment.asked...)
	return result
}

// words are the arguments of one instruction, each read as the builder reads it.
func words(node *parser.Node, lexer *shell.Lex, environment shell.EnvGetter) (instruction, error) {
	name := strings.ToUpper(node.Value)
	found := instruction{Name: name, Arguments: []string{}, Flags: []string{}}
	plain := name == "RUN" || name == "ENTRYPOINT" || name == "CMD"
	found.Shell = plain && !node.Attributes["json"]
	found.Flags = append(found.Flags, node.Flags...)
	for word := node.Next; word != nil; word = word.Next {
		value := word.Value
		if !plain {
			read, _, err := lexer.ProcessWord(value, environment)
			if err != nil {
				return found, err
			}
			value = read
		}
		found.Arguments = append(found.Arguments, value)
	}
	for _, text := range node.Heredocs {
		found.Arguments = append(found.Arguments, text.Content)
	}
	return found, nil
}
