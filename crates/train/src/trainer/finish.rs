//! What is done once, after the last epoch: the best epoch's weights in timm's form, and its figures on the test part.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use safetensors::Dtype;

use super::{BEST, LAST, MODEL, TEST, Trainer, VALIDATION, going};
use crate::error::{Result, TrainError};
use crate::evaluate::evaluate;
use crate::explain::{Explanation, Method, overlay};
use crate::export::{self, Form};
use crate::metrics::{EpochMetrics, Judgement};
use crate::sink::{Event, Sink};
use crate::{checkpoint, report, weights};

/// The shorter side of pictures in the report, at least.
const LEAST_SIDE: usize = 96;

impl Trainer {
    /// Once the last epoch is done, what there is to do with the best epoch's weights.
    pub(super) fn finish(
        &mut self,
        sink: &mut dyn Sink,
        stop: &AtomicBool,
    ) -> Result<ControlFlow<()>> {
        let Some(best) = self.metrics.best().copied() else {
            return Ok(ControlFlow::Continue(()));
        };
        weights::load(&self.folder.join(BEST), None, &self.parameters, false)?;
        if let Err(error) = self.look() {
            // A model of somebody's own may have no way back to its pixels.
            let text = format!("the report does not show where the model looked: {error}");
            sink.take(Event::Message(&text))?;
        }
        let flow = self.export(sink).and_then(|()| self.judge(&best, sink, stop));
        weights::load(&self.folder.join(LAST), None, &self.parameters, false)?;
        if flow.as_ref().is_ok_and(ControlFlow::is_continue) {
            self.about.finished = true;
            checkpoint::write_json(&self.folder.join(report::ABOUT), &self.about)?;
            report::write(&self.folder)?;
        }
        flow
    }

    /// The weights in timm's form, where timm has such a model.
    fn export(&self, sink: &mut dyn Sink) -> Result<()> {
        let Some(known) = export::known(self.model.as_ref())? else { return Ok(()) };
        let (folder, about) = (self.folder.join(MODEL), &self.description);
        match export::write(&folder, Form::Timm, &known, &self.parameters, about, Dtype::F32) {
            Err(TrainError::Setting(error)) => {
                let text = format!("no folder {} was written: {error}", folder.display());
                sink.take(Event::Message(&text))
            }
            other => other,
        }
    }

    /// Adds to the best epoch's answers where the model looked for the class that it took each for.
    fn look(&self) -> Result<()> {
        let Some(mut judged) = report::validation(&self.folder)? else { return Ok(()) };
        let method = match self.model.token_grid() {
            Some(_) => Method::GradientAttention,
            None => Method::Gradient,
        };
        let (model, input) = (self.model.as_ref(), self.model.input());
        judged.maps = self.pictures_of(&judged.figures, |answer, pixels| {
            let class = Some(answer.predicted);
            let maps = Explanation::of(model, &self.parameters, pixels, class)?.maps(method)?;
            overlay(pixels, &input, &maps, LEAST_SIDE).map(Some)
        })?;
        Ok(checkpoint::write_json(&self.folder.join(VALIDATION), &judged)?)
    }

    /// The figures on the test part.
    fn judge(
        &mut self,
        best: &EpochMetrics,
        sink: &mut dyn Sink,
        stop: &AtomicBool,
    ) -> Result<ControlFlow<()>> {
        let Some(test) = &self.test else { return Ok(ControlFlow::Continue(())) };
        let figures = evaluate(self.model.as_ref(), &self.parameters, test, |_| going(stop))?;
        let Some(figures) = figures else { return Ok(ControlFlow::Break(())) };
        if !figures.loss.is_finite() {
            return Err(TrainError::NotFiniteOutput { what: "loss" });
        }
        let averaged = best.averaged_is_better();
        let judgement = Judgement { epoch: best.epoch, averaged, figures };
        checkpoint::write_json(&self.folder.join(TEST), &judgement)?;
        sink.take(Event::Judged(&judgement))?;
        self.judgement = Some(judgement);
        Ok(ControlFlow::Continue(()))
    }
}
