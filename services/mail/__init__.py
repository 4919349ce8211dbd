"""Mail: messages to people as letters, in text and HTML, sent by SES.

`letter` makes a letter of a message: a pure function over the templates in `letters/`. `handler` is the Lambda function
behind the mail queue of `deploy/aws/events.yaml`. A local mesh sends no mail: `authmesh inbox` shows the messages
themselves.
"""
